"""The Shards page: what a search would open, and what is inside a shard."""
