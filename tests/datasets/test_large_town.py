"""The large town: as many frames as wanted, each made from one of the sample's, in the same space."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine import Collection, Filter
from engine.datasets.large_town import expected_cost, make_large_town
from engine.datasets.queries import QUERIES
from engine.embedding import Encoder
from engine.errors import Stopped, StorageFull
from engine.routing.prompts import read_prompts

N = 10_000


@pytest.fixture(scope="module")
def sample(sample_town: Path, town_encoder: Encoder) -> Iterator[Collection]:
    with Collection.open(sample_town) as collection:
        collection.use_encoder(town_encoder)
        yield collection


@pytest.fixture(scope="module")
def large(sample: Collection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with make_large_town(tmp_path_factory.mktemp("large") / "large", sample, N) as collection:
        yield collection


def test_it_holds_as_many_frames_as_asked_for_and_says_that_they_are_made_up(large: Collection) -> None:
    assert large.n_frames == N
    assert {video.about["made"] for video in large.videos()} == {"synthetic"}


def test_every_frame_keeps_the_tags_the_time_and_the_picture_of_its_parent(
    large: Collection, sample: Collection
) -> None:
    parents = {
        (hit.video_id, hit.frame_index): hit for hit in sample.search("a street", sample.n_frames, exact=True).hits
    }
    for hit in large.search("a dog on the beach", 20).hits:
        parent = parents[large.video(hit.video_id).about["parent"], hit.frame_index]
        assert (hit.tags, hit.seconds, hit.shot) == (parent.tags, parent.seconds, parent.shot)
        picture = large.thumbnail(hit)
        assert picture is not None
        assert picture.is_file()


def test_typed_queries_find_in_it_what_they_name(large: Collection) -> None:
    for query, tags in (
        ("snowy street at night", {"scene:street", "time:night", "weather:snow"}),
        ("a dog on the beach", {"scene:beach", "object:dog"}),
    ):
        hits = large.search(query, 10, exact=True).hits
        assert np.mean([tags <= set(hit.tags) for hit in hits]) >= 0.9


def test_texts_that_the_router_was_not_fitted_on_find_the_share_of_the_answer_that_they_ask_for(
    large: Collection,
) -> None:
    texts = read_prompts(QUERIES)
    truth = [{hit.frame_id for hit in result.hits} for result in large.search_many(texts, 10, exact=True)]
    for asked in (0.9, 0.95):
        found = large.search_many(texts, 10, recall=asked)
        assert {result.trace.method for result in found} == {"routed"}
        shares = [len(best & {hit.frame_id for hit in each.hits}) / 10 for best, each in zip(truth, found, strict=True)]
        assert np.mean(shares) >= asked - 0.03


def test_its_vectors_are_of_unit_norm_and_no_two_frames_are_alike(large: Collection) -> None:
    hits = large.search("a boat", 200, exact=True).hits
    vectors = np.stack([large.vector(hit.frame_id) for hit in hits])
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=2e-3)
    cosines = vectors.astype(np.float32) @ vectors.T.astype(np.float32) - 2 * np.eye(len(vectors))
    assert cosines.max() < 0.999


def test_texts_lie_as_far_from_its_frames_as_from_those_of_the_sample(large: Collection, sample: Collection) -> None:
    one, other = large.modality_gap(), sample.modality_gap()
    assert one is not None
    assert other is not None
    assert one.distance == pytest.approx(other.distance, abs=0.05)
    assert one.across < one.within


def test_takes_were_recorded_on_different_days_so_that_times_can_be_asked_for(large: Collection) -> None:
    days = {video.captured_at.date() for video in large.videos() if video.captured_at}
    assert len(days) > 3
    assert large.search("a street", 5, where=Filter(dayparts=("night",))).hits


def test_it_is_opened_and_not_made_again(large: Collection, sample: Collection) -> None:
    with make_large_town(large.path, sample, N) as again:
        assert again.generation == large.generation


def test_the_same_frames_are_made_again(large: Collection, sample: Collection, tmp_path: Path) -> None:
    with make_large_town(tmp_path / "again", sample, N) as again:
        for frame_id in again.some_frames(5, np.random.default_rng(0)):
            np.testing.assert_array_equal(again.vector(frame_id), large.vector(frame_id))


def test_one_that_is_stopped_leaves_nothing_behind(sample: Collection, tmp_path: Path) -> None:
    def stop(stage: str, done: float, total: float) -> None:
        if done / total > 0.5:
            raise Stopped("It was stopped.")

    with pytest.raises(Stopped):
        make_large_town(tmp_path / "large", sample, N, stop)
    assert not (tmp_path / "large").exists()


def test_an_unfinished_one_is_made_anew(sample: Collection, tmp_path: Path) -> None:
    Collection.create(tmp_path / "large", dim=sample.settings.dim, encoder=sample.settings.encoder).close()
    with make_large_town(tmp_path / "large", sample, N) as made:
        assert made.n_frames == N


@pytest.mark.parametrize("n", [0, 9_999, 5_000_001])
def test_sizes_out_of_range_are_refused(sample: Collection, tmp_path: Path, n: int) -> None:
    with pytest.raises(ValueError, match="10,000 to 5,000,000"):
        make_large_town(tmp_path / "large", sample, n)


def test_a_disk_without_room_is_said_before_anything_is_written(
    sample: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(StorageFull, match="make a smaller one or make room"):
        make_large_town(tmp_path / "large", sample, N)
    assert not (tmp_path / "large").exists()


def test_what_it_takes_is_told_beforehand(large: Collection) -> None:
    disk, seconds = expected_cost(N)
    real = sum(path.stat().st_size for path in large.path.rglob("*") if path.is_file())
    assert real <= disk <= 4 * real
    assert seconds > 0
