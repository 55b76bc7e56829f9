"""The Shards page: what a search would open, and what is in a shard."""
