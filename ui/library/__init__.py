"""The Library page: the videos of a collection, and making another collection."""
