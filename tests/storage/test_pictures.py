"""Pictures that are made when they are looked at."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.collection import Collection
from engine.errors import VideoError
from engine.storage import pictures as media
from engine.types import Frame, FrameBatch, NewVideo
from testing.clips import make_clip, read_number
from testing.worlds import DIM


def batch(n: int, video: list[int] | None = None) -> FrameBatch:
    return FrameBatch(
        np.random.default_rng(n).normal(size=(n, DIM)).astype(np.float32),
        # Falling, so that order of input and order by frame differ.
        np.arange(n, dtype=np.int64)[::-1],
        np.arange(n) * 0.5,
        video=None if video is None else np.array(video, np.int32),
    )


def draw(folder: Path, n: int, name: str = "{:03d}.jpg", size: tuple[int, int] = (64, 36)) -> Path:
    """n images, each of a grey of its own: ten times its number."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(1, n + 1):
        Image.new("RGB", size, (10 * i,) * 3).save(folder / name.format(i))
    return folder


def shown(collection: Collection, frame_id: int) -> int | None:
    """Number of the image that is shown for a frame."""
    path = collection.thumbnail(collection.frame(frame_id))
    return None if path is None else number_on(path)


def number_on(path: Path) -> int:
    with Image.open(path) as image:
        return round(image.getpixel((5, 5))[0] / 10)


@pytest.fixture
def collection(tmp_path):
    with Collection.create(tmp_path / "c", dim=DIM, n_shards=2) as made:
        yield made


class TestFromKeyframes:
    @pytest.mark.parametrize("name", ["{:03d}.jpg", "{:04d}.jpg", "{:05d}.jpeg", "{:03d}.png", "{:03d}.webp"])
    def test_the_image_is_the_one_at_the_frames_place_in_its_video(self, collection, tmp_path, name):
        collection.add(NewVideo("first"), batch(3))
        collection.add(NewVideo("film", pictures=str(draw(tmp_path / "k", 5, name))), batch(5))
        assert [shown(collection, 3 + i) for i in range(5)] == [1, 2, 3, 4, 5]
        assert shown(collection, 0) is None

    @pytest.mark.parametrize(
        ("names", "wanted"),
        [
            (["1.jpg", "2.JPG", "3.Jpeg"], [1, 2, 3]),
            (["0001.webp", "0002.webp", "0003.webp"], [1, 2, 3]),
            (["000.jpg", "001.jpg", "002.jpg"], [1, 2, 3]),
            (["0.png", "50.png", "100.png"], [1, 2, 3]),
            (["film_0000.jpg", "film_0050.jpg", "film_0100.jpg", "._film_0000.jpg", "film.txt"], [1, 2, 3]),
            (["001.png", "002.jpg", "003.jpg", "001.jpg"], [4, 2, 3]),
            # One is missing, one too many, from 2 on, one twice, other frames, two kinds of names: which is which is not known.
            (["001.jpg", "003.jpg"], [None] * 3),
            (["001.jpg", "002.jpg", "003.jpg", "004.jpg"], [None] * 3),
            (["002.jpg", "003.jpg", "004.jpg"], [None] * 3),
            (["1.jpg", "01.jpg", "2.jpg", "3.jpg"], [None] * 3),
            (["0.jpg", "50.jpg", "101.jpg"], [None] * 3),
            (["a_1.jpg", "b_2.jpg", "a_3.jpg"], [None] * 3),
        ],
    )
    def test_the_images_numbers_are_looked_at(self, collection, tmp_path, names, wanted):
        folder = tmp_path / "k"
        folder.mkdir()
        for i, name in enumerate(names, 1):
            path = folder / name
            kind = {".png": "PNG", ".webp": "WEBP", ".txt": "GIF"}.get(path.suffix.lower(), "JPEG")
            Image.new("RGB", (64, 36), (10 * i,) * 3).save(path, kind)
        frames = FrameBatch(np.eye(3, DIM, dtype=np.float32), np.array([0, 50, 100]), np.array([0.0, 2.0, 4.0]))
        collection.add(NewVideo("film", pictures=str(folder)), frames)
        assert [shown(collection, i) for i in range(3)] == wanted

    def test_images_that_come_later_are_seen(self, collection, tmp_path):
        folder = draw(tmp_path / "k", 1)
        collection.add(NewVideo("film", pictures=str(folder)), batch(3))
        assert shown(collection, 0) is None
        draw(folder, 3)
        assert shown(collection, 0) == 1

    def test_the_place_counts_a_videos_own_frames_where_videos_take_turns(self, collection, tmp_path):
        pictures = [str(draw(tmp_path / name, 3)) for name in "ab"]
        videos = [NewVideo(name, pictures=pictures[i]) for i, name in enumerate("ab")]
        collection.store(videos, [batch(6, [0, 1, 0, 1, 0, 1])])
        collection.build()
        assert [shown(collection, i) for i in range(6)] == [1, 1, 2, 2, 3, 3]

    def test_the_place_stays_when_other_videos_go(self, collection, tmp_path):
        collection.add(NewVideo("gone"), batch(3))
        collection.add(NewVideo("film", pictures=str(draw(tmp_path / "k", 4))), batch(4))
        collection.delete("gone")
        collection.compact()
        assert shown(collection, 5) == 3

    def test_it_is_shrunk_once_and_kept(self, collection, tmp_path):
        collection.add(NewVideo("film", pictures=str(draw(tmp_path / "k", 2, size=(1280, 720)))), batch(2))
        path = collection.thumbnail(collection.frame(1))
        with Image.open(path) as image:
            assert (image.size, image.format) == ((320, 180), "JPEG")
        made = path.stat().st_mtime_ns
        (tmp_path / "k" / "002.jpg").unlink()
        assert collection.thumbnail(collection.frame(1)) == path
        assert path.stat().st_mtime_ns == made
        assert [each.name for each in path.parent.iterdir()] == [path.name]

    def test_the_poster_is_the_frame_in_the_middle(self, collection, tmp_path):
        collection.add(NewVideo("film", pictures=str(draw(tmp_path / "k", 5))), batch(5))
        assert number_on(collection.poster("film")) == 3

    def test_images_that_are_broken_missing_or_lead_elsewhere_are_none(self, collection, tmp_path):
        folder = draw(tmp_path / "k", 3)
        (folder / "001.jpg").write_bytes(b"\xff\xd8 not a picture")
        whole = (folder / "002.jpg").read_bytes()
        (folder / "002.jpg").write_bytes(whole[: len(whole) // 2])
        draw(tmp_path / "elsewhere", 3)
        (folder / "003.jpg").unlink()
        (folder / "003.jpg").symlink_to(tmp_path / "elsewhere" / "003.jpg")
        collection.add(NewVideo("film", pictures=str(folder)), batch(4))
        assert [shown(collection, i) for i in range(4)] == [None] * 4
        collection.add(NewVideo("moved", pictures=str(tmp_path / "gone")), batch(2))
        assert shown(collection, 4) is None
        assert collection.poster("moved") is None

    def test_a_folder_that_is_itself_a_link_is_fine(self, collection, tmp_path):
        (tmp_path / "link").symlink_to(draw(tmp_path / "k", 2))
        collection.add(NewVideo("film", pictures=str(tmp_path / "link")), batch(2))
        assert shown(collection, 0) == 1

    def test_stored_thumbnails_come_first(self, collection, tmp_path):
        frames = batch(2)
        stored = FrameBatch(frames.vectors, frames.frame_index, frames.seconds, thumbnails=(b"a", b"b"))
        collection.add(NewVideo("film", pictures=str(draw(tmp_path / "k", 2))), stored)
        assert collection.thumbnail(collection.frame(0)).read_bytes() == b"a"

    def test_a_disk_that_cannot_be_written_to_costs_the_picture_only(self, collection, tmp_path, monkeypatch):
        collection.add(NewVideo("film", pictures=str(draw(tmp_path / "k", 2))), batch(2))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            assert shown(collection, 0) is None
        assert shown(collection, 0) == 1

    def test_only_the_newest_are_kept(self, collection, tmp_path, monkeypatch):
        monkeypatch.setattr(media, "KEEP_PICTURES", 20)
        collection.add(NewVideo("film", pictures=str(draw(tmp_path / "k", 22))), batch(22))
        for i in range(21):
            path = collection.thumbnail(collection.frame(i))
            os.utime(path, (i, i))
        assert len(list(path.parent.iterdir())) == 21
        collection.thumbnail(collection.frame(21))
        left = sorted(int(each.stem.split("-")[1]) for each in path.parent.iterdir())
        assert left == list(range(2, 22))


class TestFromVideo:
    def test_the_picture_is_what_is_on_display_at_the_frames_time(self, collection, tmp_path):
        make_clip(tmp_path / "film.mp4", 3.0, fps=10.0)
        collection.add(NewVideo("film", source=str(tmp_path / "film.mp4")), batch(4))
        for i in range(4):
            with Image.open(collection.thumbnail(collection.frame(i))) as image:
                assert read_number(np.asarray(image)) == 5 * i
        assert collection.poster("film") == collection.thumbnail(collection.frame(2))

    @pytest.mark.parametrize("spoil", ["broken", "missing"])
    def test_it_is_asked_where_a_keyframe_image_is_broken_or_missing(self, collection, tmp_path, spoil):
        make_clip(tmp_path / "film.mp4", 3.0, fps=10.0)
        pictures = draw(tmp_path / "k", 2)
        if spoil == "broken":
            (pictures / "002.jpg").write_bytes(b"nothing to see")
        else:  # Then it is not known which of the two the other one is.
            (pictures / "002.jpg").unlink()
        collection.add(NewVideo("film", source=str(tmp_path / "film.mp4"), pictures=str(pictures)), batch(2))
        if spoil == "broken":
            assert shown(collection, 0) == 1
        with Image.open(collection.thumbnail(collection.frame(1))) as image:
            assert read_number(np.asarray(image)) == 5

    def test_a_video_that_is_broken_or_gone_is_none(self, collection, tmp_path):
        (tmp_path / "film.mp4").write_bytes(b"nothing to see")
        collection.add(NewVideo("film", source=str(tmp_path / "film.mp4")), batch(2))
        assert shown(collection, 0) is None
        (tmp_path / "film.mp4").unlink()
        assert shown(collection, 0) is None
        assert isinstance(collection.frame(0), Frame)


def test_an_image_comes_as_rgb_and_no_smaller_than_asked(tmp_path):
    Image.new("L", (1600, 900), 77).save(tmp_path / "grey.jpg")
    image = media.read_image(tmp_path / "grey.jpg", 320)
    assert image.shape[2] == 3
    assert 320 <= image.shape[1] < 1600
    assert np.abs(image.astype(int) - 77).max() <= 2
    assert media.read_image(tmp_path / "grey.jpg").shape == (900, 1600, 3)
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    with pytest.raises(VideoError, match="9000 x 9000 pixels"):
        media.read_image(tmp_path / "huge.png")
