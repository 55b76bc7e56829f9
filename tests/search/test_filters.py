"""Filters: what passes, what is ruled out, and what that may cost."""

from __future__ import annotations

from datetime import datetime

import pytest

from engine.errors import NotFound
from engine.types import Filter, ShardState
from testing.worlds import TAGS, VIDEOS, N, assert_answers, fill, make_video, queries, segment_files

STRIPES = 30
ROUTED = {"n_probe": 10**6, "max_shards": 10**6}
"""Routed to every cell: a cap on shards, however high, keeps a search from scoring all that passes instead."""


FILTERS = [
    Filter(videos=("v0", "v3")),
    Filter(hours=(4, 5, 6, 7, 8), dayparts=("night",)),
    Filter(videos=("v0", "v1", "v4"), seconds=(4.0, 40.0), tags_any=TAGS[:3], tags_none=("weather:snow",)),
    Filter(dayparts=("night",), tags_all=("object:cat",), captured=(datetime(2024, 5, 1), None)),
]
"""What each field means is kept by `tests/frames/test_filters.py`; here, that searches keep to it."""


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    """The same frames in shards so small that filters rule many of them out."""
    path = tmp_path_factory.mktemp("striped") / "c"
    with fill(path, VIDEOS, placement="round_robin", n_shards=STRIPES) as collection:
        yield collection


class TestFilters:
    @pytest.mark.parametrize("where", FILTERS, ids=range(len(FILTERS)))
    @pytest.mark.parametrize("few", [0, 1000], ids=["routed", "scored"])
    def test_only_frames_that_pass_and_all_of_the_best_of_them(self, town, flat, where, few, limit):
        limit(exact_matches=few)
        mask = flat.passes(where)
        assert 0 < mask.sum() < len(flat)
        for query in queries(3):
            for wanted, method in (({"exact": True}, "exact"), ({"n_probe": 10**6}, "exact"), (ROUTED, "routed")):
                result = town.search(query, 8, where=where, **wanted)
                assert_answers(result.hits, flat, query, 8, mask)
                assert result.trace.method == method
            routed = town.search(query, 8, n_probe=1, where=where)
            assert {hit.frame_id for hit in routed.hits} <= set(flat.frame_id[mask])
            # Probing goes on until as many matches as were asked for have been seen.
            assert len(routed.hits) == min(8, mask.sum())

    @pytest.mark.usefixtures("coded")
    @pytest.mark.parametrize("where", FILTERS[2:], ids=range(2))
    def test_codes_are_searched_under_a_filter_too(self, tmp_path, flat, where, limit):
        limit(exact_matches=0)
        with fill(tmp_path / "c", VIDEOS) as collection:
            for query in queries(2):
                for wanted in ({"exact": True}, ROUTED):
                    found = collection.search(query, 8, where=where, **wanted)
                    assert_answers(found.hits, flat, query, 8, flat.passes(where))

    @pytest.mark.parametrize("exact", [True, False])
    def test_a_pruned_shard_never_holds_a_match(self, striped, flat, exact):
        n_pruned = 0
        for where in FILTERS:
            matching = set(flat.frame_id[flat.passes(where)].tolist())
            trace = striped.search(queries(1)[0], 5, exact=exact, where=where).trace
            n_pruned += trace.count(ShardState.PRUNED)
            for shard in trace.shards:
                if shard.state is ShardState.PRUNED:
                    assert shard.reason
                    assert not [i for i in matching if i % STRIPES == shard.shard]
        assert n_pruned

    def test_shards_are_pruned_by_their_statistics_alone(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS, built=False) as collection:
            collection.build(placement="round_robin", n_shards=2, n_cells=1)
            collection.add(*make_video(20, 1, captured_at=None))
            for path in segment_files(collection, "frames.arrow"):
                path.unlink()
            trace = collection.search(queries(1)[0], where=Filter(seconds=(1e6, None))).trace
            assert trace.count(ShardState.PRUNED) == 2
            assert all("its frames lie between" in shard.reason for shard in trace.shards)

    @pytest.mark.parametrize("exact", [True, False])
    def test_a_filter_that_nothing_passes_returns_nothing_and_says_so(self, town, exact):
        for where in (Filter(seconds=(1e6, None)), Filter(videos=("v0",), tags_any=("object:cat",))):
            result = town.search(queries(1)[0], where=where, exact=exact)
            assert result.hits == ()
            assert result.trace.warnings == ("No frame passes the filter.",)
            assert result.trace.vectors_scanned == result.trace.bytes_read == 0

    @pytest.mark.parametrize("kind", ["tags_any", "tags_all", "tags_none"])
    def test_a_tag_that_no_frame_carries_is_not_found(self, town, kind):
        with pytest.raises(NotFound, match="'object:unicorn'"):
            town.search(queries(1)[0], where=Filter(**{kind: ("object:cat", "object:unicorn")}))

    def test_an_unknown_video_is_not_found_rather_than_ignored(self, town):
        with pytest.raises(NotFound, match="'nowhere'"):
            town.search(queries(1)[0], where=Filter(videos=("v1", "nowhere")))

    def test_a_deleted_video_can_no_longer_be_filtered_for(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS) as collection:
            collection.delete("v1")
            with pytest.raises(NotFound, match="'v1'"):
                collection.search(queries(1)[0], where=Filter(videos=("v1",)))


class TestCost:
    """Scoring all that passes, or routing to it, whichever costs less; the answer of an exact search is always the same."""

    @pytest.mark.parametrize("where", FILTERS[2:], ids=range(2))
    @pytest.mark.parametrize("matches", [0, 10**6])
    @pytest.mark.parametrize("scattered", [0.0, 10**6])
    def test_what_it_thinks_things_cost_never_changes_the_answer_of_exact(
        self, town, flat, where, matches, scattered, limit, monkeypatch
    ):
        limit(exact_matches=matches)
        monkeypatch.setattr("engine.search.filtering._SCATTERED", scattered)
        for query, result in zip(queries(4), town.search_many(queries(4), 6, exact=True, where=where), strict=True):
            assert_answers(result.hits, flat, query, 6, flat.passes(where))
            assert result.trace.reason == "An exact search was asked for."

    def test_few_matches_are_scored_whole_however_narrow_the_probe(self, town, flat):
        where = Filter(seconds=(4.0, 40.0))
        for query in queries(5):
            result = town.search(query, 10, n_probe=1, where=where)
            assert_answers(result.hits, flat, query, 10, flat.passes(where))
            assert result.trace.method == "exact"
            assert result.trace.reason.startswith(f"{flat.passes(where).sum()} frames pass the filter")

    @pytest.mark.parametrize(
        ("matches", "n_probe", "method"), [(149, 1, "routed"), (150, 1, "exact"), (0, 10**6, "exact"), (0, 1, "routed")]
    )
    def test_the_cheaper_way_is_taken(self, town, matches, n_probe, method, limit):
        limit(exact_matches=matches)
        # Every frame passes; all of them are 150 rows, and one cell is far fewer.
        trace = town.search(queries(1)[0], 1, n_probe=n_probe, where=Filter(seconds=(0.0, None))).trace
        assert trace.method == method

    def test_a_cap_on_shards_is_kept_rather_than_scoring_everywhere(self, town):
        trace = town.search(queries(1)[0], 10, max_shards=1, where=Filter(seconds=(4.0, 40.0))).trace
        assert trace.shards_probed == 1
        assert trace.method == "routed"


class TestHours:
    def test_every_hour_of_the_day_finds_exactly_what_was_filmed_in_it(self, town, flat):
        for hour in range(24):
            where = Filter(hours=(hour,))
            mask = flat.passes(where)
            result = town.search(queries(1)[0], N, exact=True, where=where)
            assert {hit.frame_id for hit in result.hits} == set(flat.frame_id[mask].tolist())
            assert bool(result.trace.warnings) == (not mask.any())

    def test_shards_filmed_at_other_hours_are_ruled_out_in_words(self, tmp_path):
        with fill(tmp_path / "c", VIDEOS, placement="time_of_day", options={"by": "hour"}, n_shards=24) as collection:
            trace = collection.search(queries(1)[0], exact=True, where=Filter(hours=(9,))).trace
        assert trace.shards_probed == 1
        assert any("recorded at 9:00" in shard.reason for shard in trace.shards)
