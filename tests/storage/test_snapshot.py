"""A generation as it is, and as it would be."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np

from testing.worlds import FEW, fill, queries, snapshot_of


def test_a_what_if_has_routing_and_plans_of_its_own_and_changes_nothing(tmp_path):
    with fill(tmp_path / "c", FEW) as collection, snapshot_of(collection) as snapshot:
        routing, shards = snapshot.routing, snapshot.shards
        asked = queries(3)
        scores = routing.scorers("text")["spread"].score_cells(asked)
        other = snapshot.imagined(routing=replace(routing, rows=np.zeros_like(routing.rows)))
        assert not other.routing.rows.any()
        assert (other.shards, other.n_live, other.leased) == ((), 36, False)
        assert other.plans is not snapshot.plans
        assert (snapshot.routing, snapshot.shards) == (routing, shards)
        np.testing.assert_array_equal(routing.scorers("text")["spread"].score_cells(asked), scores)
        some = snapshot.imagined(shards[:1], placement="round_robin")
        assert (some.n_live, some.manifest.layout.placement) == (shards[0].n_live, "round_robin")
        assert some.routing.rows.sum() == some.routing.cell_map.rows.sum() == shards[0].n_live
        assert snapshot.manifest.layout.placement == "semantic"


def test_a_what_if_without_shards_needs_no_file(tmp_path):
    with fill(tmp_path / "c", FEW, built=False) as collection:
        collection.build(queries=queries(40))
        with snapshot_of(collection) as snapshot:
            other = snapshot.imagined()
            for kind in ("cells", "routers", "segments"):
                shutil.rmtree(tmp_path / "c" / kind)
            for query in ("text", "image"):
                name = other.routing.usual_router(query)
                assert np.isfinite(other.routing.scorers(query)[name].score_cells(queries(2))).all()
            assert len(other.cells) == len(other.routing.cells)
