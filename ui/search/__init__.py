"""The Search page: the query, its hints and settings, the route that a search took, a frame beside its clip."""
