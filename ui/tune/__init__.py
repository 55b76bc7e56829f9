"""The Tune page: what another layout would do."""
