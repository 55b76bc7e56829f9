"""Pictures of a collection: kept by video and frame, and held against what was written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.storage.thumbnails import hash_thumbnails, thumbnails_folder
from engine.types import FrameBatch, NewVideo
from testing.worlds import fill, flip, make_video

VIDEO, FRAMES = NewVideo("film"), make_video(0, 6)[1]
PICTURES = tuple(bytes([i]) * (i + 5) for i in range(6))


@pytest.fixture
def collection(tmp_path):
    """One video with pictures, stored in two batches, and one without."""
    whole = replace(FRAMES, thumbnails=PICTURES)
    halves = [
        FrameBatch(whole.vectors[part], whole.frame_index[part], whole.seconds[part], thumbnails=whole.thumbnails[part])
        for part in (slice(0, 4), slice(4, 6))
    ]
    with fill(tmp_path / "c", [make_video(1, 4)], built=False) as made:
        made.store([VIDEO], halves)
        yield made


def place(collection):
    return thumbnails_folder(collection.path, collection.video("film").number)


class TestDigest:
    @given(st.dictionaries(st.integers(0, 99), st.binary(min_size=4, max_size=4), max_size=6))
    def test_the_order_of_the_pictures_does_not_matter(self, hashes):
        assert hash_thumbnails(hashes.items()) == hash_thumbnails(reversed(hashes.items()))
        assert bool(hash_thumbnails(hashes.items())) == bool(hashes)

    def test_which_picture_belongs_to_which_frame_matters(self):
        assert hash_thumbnails([(1, b"a"), (2, b"b")]) != hash_thumbnails([(1, b"b"), (2, b"a")])


class TestCheck:
    def test_pictures_as_they_were_written_are_no_problem(self, collection):
        assert collection.check() == []
        for frame, picture in zip(FRAMES.frame_index, PICTURES, strict=True):
            assert (place(collection) / f"{frame}.jpg").read_bytes() == picture

    @pytest.mark.parametrize("harm", ["changed", "missing", "added", "emptied", "swapped", "renamed", "all gone"])
    def test_any_harm_to_a_picture_is_one_sentence_with_the_video(self, collection, harm):
        first, second = (place(collection) / f"{frame}.jpg" for frame in FRAMES.frame_index[:2])
        if harm == "changed":
            flip(first)
        elif harm == "missing":
            first.unlink()
        elif harm == "added":
            (place(collection) / "999.jpg").write_bytes(b"x")
        elif harm == "emptied":
            first.write_bytes(b"")
        elif harm == "swapped":
            first.write_bytes(PICTURES[1])
            second.write_bytes(PICTURES[0])
        elif harm == "renamed":
            first.rename(place(collection) / "first.jpg")
        else:
            for path in place(collection).iterdir():
                path.unlink()
        (problem,) = collection.check()
        assert "thumbnails of film" in problem
        assert problem.endswith(".")

    def test_pictures_survive_a_build_and_go_with_their_video(self, collection):
        collection.build(n_shards=2)
        assert collection.check() == []
        folder = place(collection)
        collection.delete("film")
        assert collection.check() == []
        with collection.writing():
            pass
        assert not folder.exists()


def test_a_poster_is_the_picture_from_the_middle(collection):
    assert collection.poster("film").read_bytes() == PICTURES[3]
    assert collection.poster("v1") is None


def test_the_picture_of_a_frame_is_its_own(collection):
    hits = collection.search(np.ones(8), 99, exact=True).hits
    for hit in hits:
        path = collection.thumbnail(hit)
        if hit.video_id == "film":
            assert path.read_bytes() == PICTURES[FRAMES.frame_index.tolist().index(hit.frame_index)]
        else:
            assert path is None
