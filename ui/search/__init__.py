"""The Search page: the query, its hints and settings, the answer and how it was found; the Shards page uses these too."""
