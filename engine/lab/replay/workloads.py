"""Loads of queries: in which order many searchers, or one, would ask some queries. The same seed gives the same order."""

from __future__ import annotations

import numpy as np

from engine.vectors import Floats, Rows

SKEW = 1.2
"""Exponent of Zipf's law: of 400 queries, the ten most frequent are asked six times out of ten."""
_NEAR = 12
"""Queries like the one that a burst began with, that it goes on with."""
_BURST = 12.0
"""Queries of a burst, on average."""


def uniform(queries: Floats, n: int, rng: np.random.Generator) -> Rows:
    """Each query is as likely as any other: the hardest load for a cache."""
    return rng.integers(0, len(queries), n)


def skewed(queries: Floats, n: int, rng: np.random.Generator) -> Rows:
    """Some queries are asked again and again, most hardly ever: Zipf's law over the queries, in an order by chance."""
    weights = 1.0 / np.arange(1, len(queries) + 1) ** SKEW
    ranked: Rows = rng.permutation(len(queries))
    return ranked[rng.choice(len(queries), n, p=weights / weights.sum())]


def session(queries: Floats, n: int, rng: np.random.Generator) -> Rows:
    """One searcher refines: a burst of queries like each other, and then something else."""
    order = np.empty(n, np.int64)
    done = 0
    while done < n:
        start = queries[rng.integers(len(queries))]
        near = np.argsort(-(queries @ start), kind="stable")[:_NEAR]
        burst = rng.choice(near, min(n - done, int(rng.geometric(1 / _BURST))))
        order[done : done + len(burst)] = burst
        done += len(burst)
    return order


WORKLOADS = {"uniform": uniform, "skewed": skewed, "session": session}
"""Ways to ask m queries (m, dim) n times: (n,) which one is asked each time."""


def query_order(load: str, queries: Floats, n: int, seed: int = 0) -> Rows:
    """Which of the queries (m, dim) is asked at each of n times, (n,).

    Raises
    ------
    ValueError
        If there is no such load, nothing to ask, or nothing to do.
    """
    if load not in WORKLOADS:
        raise ValueError(f"Unknown load {load!r}; use {', '.join(WORKLOADS)}.")
    if not len(queries):
        raise ValueError("There are no queries to replay; give one or more.")
    if n < 1:
        raise ValueError(f"{n} queries cannot be replayed; ask for 1 or more.")
    return WORKLOADS[load](queries, n, np.random.default_rng(seed))
