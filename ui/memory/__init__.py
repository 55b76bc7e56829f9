"""The Memory page: where bytes are, and a cache at work."""
