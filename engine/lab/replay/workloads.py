"""Workloads: in which order queries are asked. The same seed gives the same order."""

from __future__ import annotations

import numpy as np

from engine.vectors import Floats, Rows

SKEW = 1.2
"""Exponent of Zipf's law: of 400 queries, the ten most frequent make six of ten searches."""
_NEIGHBOURS = 12
"""A burst draws from so many queries most like its first."""
_BURST = 12.0
"""Mean number of queries in a burst."""


def uniform(queries: Floats, n: int, rng: np.random.Generator) -> Rows:
    """Each query is as likely as any other: the hardest workload for a cache."""
    return rng.integers(0, len(queries), n)


def skewed(queries: Floats, n: int, rng: np.random.Generator) -> Rows:
    """A few queries are asked most of the time: Zipf's law over the queries, ranked at random."""
    weights = 1.0 / np.arange(1, len(queries) + 1) ** SKEW
    ranked: Rows = rng.permutation(len(queries))
    return ranked[rng.choice(len(queries), n, p=weights / weights.sum())]


def session(queries: Floats, n: int, rng: np.random.Generator) -> Rows:
    """One user refines a query: bursts of similar queries."""
    order = np.empty(n, np.int64)
    done = 0
    while done < n:
        start = queries[rng.integers(len(queries))]
        near = np.argsort(-(queries @ start), kind="stable")[:_NEIGHBOURS]
        burst = rng.choice(near, min(n - done, int(rng.geometric(1 / _BURST))))
        order[done : done + len(burst)] = burst
        done += len(burst)
    return order


WORKLOADS = {"uniform": uniform, "skewed": skewed, "session": session}
"""By name: from queries (m, dim) and a number n, which query is asked at each of n times, (n,)."""


def query_order(workload: str, queries: Floats, n: int, seed: int = 0) -> Rows:
    """Which of the queries (m, dim) is asked at each of n times, (n,).

    Raises
    ------
    ValueError
        If there is no such workload, or m or n is 0.
    """
    if workload not in WORKLOADS:
        raise ValueError(f"Unknown load {workload!r}; use {', '.join(WORKLOADS)}.")
    if not len(queries):
        raise ValueError("There are no queries to replay; give one or more.")
    if n < 1:
        raise ValueError(f"{n} queries cannot be replayed; ask for 1 or more.")
    return WORKLOADS[workload](queries, n, np.random.default_rng(seed))
