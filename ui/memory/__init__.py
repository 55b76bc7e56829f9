"""The Memory page: where bytes are, and a cache while queries are replayed."""
