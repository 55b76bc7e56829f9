"""Small made-up collections to tune, and tuners for them."""

from __future__ import annotations

import numpy as np

from engine import Collection
from engine.datasets.synthetic import World, write_synthetic
from engine.lab.tuning.cost_model import CostModel
from engine.lab.tuning.evaluation import evaluate
from engine.lab.tuning.measure import current_setting, measure_layout
from engine.lab.tuning.tuner import Tuner
from engine.search.ground_truth import reading
from engine.system import no_progress

WORLD = World(32, seed=3)
N = 4000
QUERIES = WORLD.text_queries(24, seed=9)
SHARDS = 5


def made(path, n_shards=SHARDS, placement="semantic", **settings):
    """A built collection whose router was fitted on other texts."""
    told = {"dim": WORLD.dim, "n_shards": n_shards, "placement": placement, "route": "routed", **settings}
    collection = Collection.create(path, **told)
    write_synthetic(collection, WORLD, N, build=False)
    collection.build(queries=WORLD.text_queries(300, seed=2))
    return collection


def tuner_of(path, queries=QUERIES) -> Tuner:
    """A tuner whose predictions hold no times, which spares timing searches."""
    with reading(path) as snapshot:
        evaluation = evaluate(snapshot, queries, "text", 10, no_progress)
        none = np.zeros(10)
        cost = CostModel(none, none, (none[:3], none[:3]), 0.1)
        return Tuner(evaluation, cost, measure_layout(snapshot, evaluation, current_setting(snapshot)))


def tuner_small(path) -> Tuner:
    """The same for collections of `testing.worlds`."""
    return tuner_of(path, np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32))
