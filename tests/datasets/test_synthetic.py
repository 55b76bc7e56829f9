"""Made-up videos: the same each time, shaped like videos, and as hard to search as they promise."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from engine.cli.main import main
from engine.collection import Collection
from engine.datasets.synthetic import World, write_synthetic
from engine.datasets.synthetic_space import LABELS, TAGS
from engine.importers.vectors import ROWS_PER_BATCH
from engine.types import DAYPARTS, Filter
from engine.vectors.clustering import kmeans

N = 20_000
DIM = 128


@pytest.fixture(scope="module")
def world():
    return World(DIM, seed=3)


@pytest.fixture(scope="module")
def batches(world):
    return list(world.batches(N))


@pytest.fixture(scope="module")
def frames(batches):
    return np.concatenate([batch.vectors for batch in batches])


@pytest.fixture(scope="module")
def video(batches):
    return np.concatenate([batch.video for batch in batches])


@pytest.fixture(scope="module")
def shot(batches, video):
    """A number for each shot of each video."""
    return video * 1000 + np.concatenate([batch.shot for batch in batches])


@pytest.fixture(scope="module")
def texts(world):
    return world.text_queries(200)


@pytest.fixture
def run(capsys):
    def call(*arguments):
        try:
            status = main([str(each) for each in arguments])
        except SystemExit as leave:
            status = leave.code
        return status, *capsys.readouterr()

    return call


class TestFrames:
    def test_the_same_world_makes_the_same_rows_and_another_seed_others(self, batches):
        again, other = (next(World(DIM, seed).batches(N)) for seed in (3, 4))
        assert np.array_equal(again.vectors, batches[0].vectors)
        assert again.tags == batches[0].tags
        assert not np.allclose(other.vectors[:100], again.vectors[:100], atol=0.01)

    @pytest.mark.parametrize("n", [1, 100, 777])
    def test_fewer_frames_are_the_first_of_more(self, world, batches, n):
        (few,) = world.batches(n)
        assert len(few) == n
        assert np.array_equal(few.vectors, batches[0].vectors[:n])
        assert np.array_equal(few.seconds, batches[0].seconds[:n])
        assert few.tags == batches[0].tags[:n]

    def test_batches_are_bounded_and_hold_as_many_frames_as_asked_for(self, batches, frames):
        assert len(batches) > 1
        assert max(len(batch) for batch in batches) <= ROWS_PER_BATCH
        assert frames.shape == (N, DIM)
        assert frames.dtype == np.float32

    def test_videos_can_be_left_out(self, world, frames, video):
        rest = list(world.batches(N, without=range(10)))
        assert np.array_equal(np.concatenate([batch.vectors for batch in rest]), frames[video >= 10])
        assert np.array_equal(np.concatenate([batch.video for batch in rest]), video[video >= 10] - 10)

    def test_rows_have_unit_norm_and_a_strong_common_mean(self, frames):
        assert np.allclose(np.linalg.norm(frames, axis=1), 1, atol=1e-5)
        assert 0.65 < np.linalg.norm(frames.mean(axis=0)) < 0.8

    def test_frames_of_a_shot_are_nearly_the_same_and_of_two_shots_are_not(self, frames, shot):
        alike = (frames[1:] * frames[:-1]).sum(axis=1)
        within = shot[1:] == shot[:-1]
        assert np.quantile(alike[within], 0.05) > 0.85
        assert np.median(alike[within]) > 0.92
        assert np.median(alike[~within]) < 0.8
        assert 1.1 < len(shot) / len(np.unique(shot)) < 1.5

    def test_a_video_keeps_to_a_few_scenes_and_some_scenes_are_frequent(self, batches, video):
        tags = [tag for batch in batches for each in batch.tags for tag in each if tag.startswith("scene:")]
        assert len(tags) == N  # One scene per frame.
        assert max(len(set(np.array(tags)[video == i])) for i in range(20)) <= 3
        _, counts = np.unique(tags, return_counts=True)
        assert counts.max() > 3 * np.median(counts)

    def test_every_tag_is_a_known_one_and_each_kind_occurs(self, batches):
        found = {tag for batch in batches for each in batch.tags for tag in each}
        assert found <= set(TAGS)
        assert {tag.split(":")[0] for tag in found} == set(LABELS)

    def test_times_rise_and_fit_the_frame_rate_of_the_video(self, world, batches, video):
        seconds = np.concatenate([batch.seconds for batch in batches])
        index = np.concatenate([batch.frame_index for batch in batches])
        videos = world.videos(N)
        assert len(videos) == video[-1] + 1
        assert any(each.fps % 1 for each in videos)
        for i, each in enumerate(videos):
            mine = video == i
            assert (np.diff(index[mine]) > 0).all()
            assert np.allclose(seconds[mine] * each.fps, index[mine])
            assert seconds[mine][0] == 0
            assert seconds[mine][-1] < each.duration

    def test_the_time_of_day_is_that_of_the_recording(self, world, batches):
        videos = world.videos(N)
        for place, tags in zip(batches[0].video.tolist(), batches[0].tags, strict=True):
            (part,) = (tag.removeprefix("time:") for tag in tags if tag.startswith("time:"))
            first, last = DAYPARTS[part]
            assert (videos[place].captured_at.hour - first) % 24 < (last - first) % 24

    def test_names_say_that_it_is_made_up(self, world):
        first = world.videos(300)[0]
        assert (first.video_id, first.title, first.about) == (
            "synthetic-000000",
            "Synthetic video 0",
            {"made": "synthetic"},
        )

    def test_a_world_does_not_change(self, world):
        with pytest.raises(FrozenInstanceError):
            world.seed = 1


class TestQueries:
    def test_queries_are_of_unit_norm_and_the_same_by_seed(self, world, texts):
        images = world.image_queries(50, N)
        assert np.allclose(np.linalg.norm(np.vstack([texts, images]), axis=1), 1, atol=1e-5)
        assert np.array_equal(texts, world.text_queries(200))
        assert np.array_equal(images, world.image_queries(50, N))
        assert not np.allclose(texts, world.text_queries(200, seed=2), atol=0.01)

    def test_texts_lie_on_a_cone_of_their_own_far_from_every_frame(self, frames, texts):
        among = texts @ texts.T
        assert 0.65 < np.median(among) < 0.85
        best = (texts @ frames.T).max(axis=1)
        assert best.max() < 0.6 < np.quantile(among, 0.1)
        assert (texts @ frames.T).mean() == pytest.approx(0.19, abs=0.03)

    def test_images_lie_beside_a_frame(self, world, frames):
        best = (world.image_queries(100, N) @ frames.T).max(axis=1)
        assert best.min() > 0.85

    def test_textbook_cells_find_what_images_ask_for_and_miss_what_texts_do(self, world, frames, texts):
        centroids = kmeans(frames, 256, n_iter=6)
        cell = np.argmax(frames @ centroids.T - np.square(centroids).sum(axis=1) / 2, axis=1)

        def recall(queries):
            best = np.argpartition(-(queries @ frames.T), 10, axis=1)[:, :10]
            probed = np.argpartition(-(queries @ centroids.T), 16, axis=1)[:, :16]
            return np.mean([np.isin(cell[rows], cells).mean() for rows, cells in zip(best, probed, strict=True)])

        image, text = recall(world.image_queries(200, N)), recall(texts)
        assert image > 0.95
        assert 0.5 < text < 0.75

    def test_the_best_frames_of_a_text_are_different_pictures_of_different_videos(self, frames, video, texts):
        best = np.argpartition(-(texts @ frames.T), 10, axis=1)[:, :10]
        assert np.mean([len(set(each)) for each in video[best]]) > 7
        alike = np.einsum("mkd,mjd->mkj", frames[best], frames[best]) > 0.9
        assert np.mean(~np.tril(alike, -1).any(axis=2)) > 0.85

    def test_frames_close_to_the_tenth_best_grow_slowly_with_the_collection(self, frames, texts):
        """On real keyframes those within .02 of the tenth best grow like n^.2 (`benchmarks.growth`)."""

        def n_close(n):
            scores = np.sort(texts @ frames[:n].T, axis=1)
            return (scores >= scores[:, -10:-9] - 0.02).sum(axis=1).mean()

        grown = np.log(n_close(N) / n_close(N // 4)) / np.log(4)
        assert 0.1 < grown < 0.34


class TestStoring:
    def test_a_collection_is_filled_and_built_and_found_in(self, tmp_path):
        world = World(32)
        with Collection.create(tmp_path / "c", dim=32, n_shards=3) as collection:
            report = write_synthetic(collection, world, 1000)
            assert (report.n_frames, collection.n_frames, collection.built) == (1000, 1000, True)
            (batch,) = world.batches(1000)
            hit = collection.search(batch.vectors[321], 1, exact=True).hits[0]
            assert (hit.frame_index, hit.shot, set(hit.tags)) == (
                batch.frame_index[321],
                batch.shot[321],
                set(batch.tags[321]),
            )
            assert hit.title == f"Synthetic video {batch.video[321]}"
            (scene,) = (tag for tag in hit.tags if tag.startswith("scene:"))
            only = collection.search(batch.vectors[321], 50, where=Filter(tags_all=(scene,))).hits
            assert only
            assert all(scene in each.tags for each in only)

    def test_again_nothing_is_added_and_more_frames_add_the_new_videos(self, tmp_path):
        world = World(16)
        n = int(np.flatnonzero(next(world.batches(2000)).video == 2)[0])
        with Collection.create(tmp_path / "c", dim=16) as collection:
            first = write_synthetic(collection, world, n, build=False)
            again = write_synthetic(collection, world, n, build=False)
            more = write_synthetic(collection, world, 2000, build=False)
            other = write_synthetic(collection, World(16, seed=1), n, build=False)
            assert (len(first.added), again.added, again.n_frames, len(again.skipped)) == (2, (), 0, 2)
            assert more.skipped == first.added
            assert collection.n_frames == 2000 == n + more.n_frames
            assert (other.added, other.skipped) == ((), ())
            assert "other content" in other.refused[0][1]

    def test_another_length_is_refused(self, tmp_path):
        with (
            Collection.create(tmp_path / "c", dim=16) as collection,
            pytest.raises(ValueError, match="this collection stores 16"),
        ):
            write_synthetic(collection, World(32), 100)


class TestCommand:
    def test_it_makes_a_collection_and_queries(self, run, tmp_path):
        into, to = tmp_path / "c", tmp_path / "queries" / "of it"
        settings = ("--dim", 24, "--seed", 5, "--shards", 3, "--placement", "by_video", "--cells", 6, "--codec", "sq4")
        status, out, _ = run("synthetic", "--into", into, "--frames", 900, *settings, "--queries-to", to, "--json")
        assert (status, json.loads(out)["n_frames"]) == (0, 900)
        with Collection.open(into) as collection:
            assert (collection.settings.dim, collection.settings.codec, collection.built) == (24, "sq4", True)
        shapes = {name: np.load(to / f"{name}.npy").shape for name in ("text", "image", "bank")}
        assert shapes == {"text": (1000, 24), "image": (1000, 24), "bank": (4000, 24)}
        assert np.array_equal(np.load(to / "text.npy"), World(24, 5).text_queries(1000))

    def test_without_a_build_frames_stay_as_they_come(self, run, tmp_path):
        assert run("synthetic", "--into", tmp_path / "c", "--frames", 300, "--dim", 16, "--no-build")[0] == 0
        with Collection.open(tmp_path / "c") as collection:
            assert (collection.n_frames, collection.built) == (300, False)

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            (("--frames", 0), "0 frames cannot be made"),
            (("--frames", -5), "'-5' is not a number of frames"),
            (("--frames", 10, "--dim", 3), "Vectors of 3 numbers"),
            (("--frames", 10, "--dim", 9999), "Vectors of 9999 numbers"),
            (("--frames", 10, "--seed", -1), "The seed is -1"),
            (("--frames", 10, "--placement", "best"), "Unknown placement 'best'"),
            (("--frames", "many"), "'many' is not a number of frames"),
            ((), "--frames"),
        ],
    )
    def test_a_mistake_is_one_line_and_leaves_no_collection(self, run, tmp_path, wrong, why):
        status, out, err = run("synthetic", "--into", tmp_path / "c", *wrong)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert why in err
        assert not (tmp_path / "c").exists()

    def test_a_count_of_queries_below_one_is_refused(self):
        for ask in (World(16).text_queries, lambda m: World(16).image_queries(m, 100)):
            with pytest.raises(ValueError, match="0 queries cannot be made"):
                ask(0)
