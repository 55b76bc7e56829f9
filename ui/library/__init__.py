"""The Library page: videos of a collection, and making another."""
