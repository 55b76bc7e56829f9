"""Experiments on a collection: compare contenders, replay workloads, tune the layout."""
