"""What several pages use: the visitor's collection, jobs, filters, grids of pictures, words, colours, errors."""
