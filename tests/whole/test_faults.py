"""Damage: the shard that has it fails by name, and no other."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from engine.collection import Collection
from engine.errors import CorruptData, ShardFailed
from engine.search import SearchResult
from engine.storage.limits import limited
from engine.types import Filter, ShardState
from testing.worlds import DIM, Flat, assert_answers, fill, flip, make_video, queries, segment_files

VIDEOS = [make_video(i) for i in range(5)]


@pytest.fixture(scope="module")
def flat():
    return Flat.of(VIDEOS)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The folder of a built collection with codes; it is copied before it is damaged."""
    path = tmp_path_factory.mktemp("sound") / "c"
    with limited(coded_from=1):
        fill(path, VIDEOS).close()
    return path


def ids(result: SearchResult) -> list[int]:
    return [hit.frame_id for hit in result.hits]


class TestFaults:
    """A shard that cannot be read is named; with allow_partial the others answer and the trace says what is missing."""

    @pytest.fixture
    def broken(self, tmp_path, sound):
        """A built collection of one's own, to be damaged."""
        return shutil.copytree(sound, tmp_path / "c")

    @pytest.mark.parametrize("harm", [flip, lambda path: path.unlink()], ids=["flipped", "gone"])
    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            ("vectors.npy", {"exact": True}),
            ("vectors.npy", {"n_probe": 10**6, "k": 200}),
            ("vectors.npy", {"where": Filter(seconds=(0.0, 30.0))}),
            ("frames.arrow", {"exact": True}),
            ("frames.arrow", {"n_probe": 10**6}),
            ("frames.arrow", {"where": Filter(seconds=(0.0, 30.0))}),
            ("cells.npy", {"n_probe": 10**6}),
            ("codes.faiss", {"n_probe": 10**6}),
        ],
    )
    @pytest.mark.parametrize("residency", ["loaded", "lists", "mapped"])
    @pytest.mark.parametrize("workers", [1, 3])
    def test_a_damaged_file_fails_its_shard_and_no_other(self, broken, flat, name, wanted, harm, workers, residency):
        opened = {"workers": workers, "residency": residency}
        with Collection.open(broken) as collection:
            path = segment_files(collection, name)[1]
            with collection.reading() as snapshot:
                (shard,) = [s for s in snapshot.shards for v in s.segments if v.segment.folder == path.parent]
                lost = set(shard.segments[0].segment.columns.frame_id.tolist())
        harm(path)
        query, wanted = queries(1)[0], dict(wanted)
        k, where = wanted.pop("k", 20), wanted.get("where")
        with Collection.open(broken, **opened) as collection:
            with pytest.raises(ShardFailed, match=name) as caught:
                collection.search(query, k, **wanted)
            assert (caught.value.shard, caught.value.segment) == (shard.shard, path.parent.name)
            with pytest.raises(ShardFailed, match=name):
                collection.search_many(queries(4), k, **wanted)
            result = collection.search(query, k, allow_partial=True, **wanted)
            batch = collection.search_many(queries(4), k, allow_partial=True, **wanted)
            (problem,) = collection.check()
        mask = ~np.isin(flat.frame_id, list(lost))
        mask = mask & flat.passes(where) if where else mask
        assert_answers(result.hits, flat, query, k, mask)
        for each, other in zip(queries(4), batch, strict=True):
            assert_answers(other.hits, flat, each, k, mask)
            assert other.trace.missing == result.trace.missing
        (missing,) = result.trace.missing
        assert f"Shard {shard.shard} " in missing
        assert name in missing
        assert name in problem
        assert [s.shard for s in result.trace.shards if s.state is ShardState.FAILED] == [shard.shard]
        assert "No frame passes the filter." not in result.trace.warnings

    @pytest.mark.parametrize("batched", [False, True])
    def test_a_mapped_list_is_refused_by_the_queries_that_read_it_and_by_no_other(self, broken, batched):
        asked = queries(30)
        with Collection.open(broken) as collection:
            sound = collection.search_many(asked, 1, n_probe=1)
            with collection.reading() as snapshot:
                unit = asked / np.linalg.norm(asked, axis=1, keepdims=True)
                best = snapshot.routing.scorers("text")["spread"].score_cells(unit).argmax(1)
                cell = np.bincount(best).argmax()
                (segment,) = [view.segment for view in snapshot.views() if cell in view.segment.cells]
        # A row takes a byte per dimension and eight for its number.
        before = segment.cell_rows[segment.cells < cell].sum() * (DIM + 8)
        flip(segment.folder / "codes.faiss", int(segment.row.stats["header"][0] + before))
        hit = best == cell
        assert 0 < hit.sum() < 30
        with Collection.open(broken, residency="mapped") as collection:
            if batched:
                with pytest.raises(ShardFailed, match="checksum"):
                    collection.search_many(asked, 1, n_probe=1)
                found = collection.search_many(asked[~hit], 1, n_probe=1)
                assert [ids(each) for each in found] == [ids(sound[i]) for i in np.flatnonzero(~hit)]
                return
            for query, expected, unlucky in zip(asked, sound, hit, strict=True):
                if unlucky:
                    with pytest.raises(ShardFailed, match="checksum"):
                        collection.search(query, 1, n_probe=1)
                else:
                    assert ids(collection.search(query, 1, n_probe=1)) == ids(expected)

    def test_in_a_batch_only_queries_that_wanted_the_shard_miss_it(self, broken):
        asked = queries(30)
        with Collection.open(broken) as collection:
            sound = collection.search_many(asked, 1, n_probe=1)
            flip(segment_files(collection, "codes.faiss")[0])
        with Collection.open(broken) as collection:
            found = collection.search_many(asked, 1, n_probe=1, allow_partial=True)
        missing = [bool(result.trace.missing) for result in found]
        assert 0 < sum(missing) < 30
        for one, other in zip(sound, found, strict=True):
            failed = [shard.shard for shard in other.trace.shards if shard.state is ShardState.FAILED]
            assert bool(failed) == bool(other.trace.missing)
            if failed:
                assert other.hits == ()
                assert one.hits[0].shard == failed[0]
            else:
                assert ids(one) == ids(other)

    def test_damage_in_a_shard_that_is_not_opened_hinders_nobody(self, broken):
        query = queries(1)[0]
        with Collection.open(broken) as collection:
            trace = collection.search(query, 1, n_probe=1).trace
            skipped = [shard.shard for shard in trace.shards if shard.state is ShardState.SKIPPED]
            with collection.reading() as snapshot:
                folder = snapshot.shards[skipped[0]].segments[0].segment.folder
        (folder / "codes.faiss").unlink()
        (folder / "frames.arrow").unlink()
        with Collection.open(broken) as collection:
            assert len(collection.search(query, 1, n_probe=1).hits) == 1

    def test_damaged_cells_stop_routing_with_a_sentence_and_leave_exact_search(self, broken, flat):
        (centroids,) = broken.glob("cells/*/centroids.npy")
        flip(centroids)
        with Collection.open(broken) as collection:
            with pytest.raises(CorruptData, match="centroids"):
                collection.search(queries(1)[0])
            assert_answers(collection.search(queries(1)[0], 5, exact=True).hits, flat, queries(1)[0], 5)
            assert any("centroids" in problem for problem in collection.check())

    def test_a_sound_collection_has_no_problems(self, broken):
        with Collection.open(broken) as collection:
            assert collection.check() == []
