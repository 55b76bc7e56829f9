"""The Tune page: what another layout would change, and applying it."""
