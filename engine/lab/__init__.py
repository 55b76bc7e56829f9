"""Experiments on a collection: compare, replay, tune."""
