"""Videos as cameras, recorders and phones really write them: what is read in sequence is found again by its time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorTrc
from PIL import Image

from engine.errors import VideoError
from engine.media import DecodeReport, cut_clip, grab, probe, sample
from testing.clips import confetti, flat, make_clip, read_number, snow
from testing.odd_videos import (
    copy_into,
    make_covered,
    make_hdr,
    make_interlaced,
    make_joined,
    make_late_picture,
    set_matrix,
    shift_sync_table,
    spoil,
)


def numbers_at(path: Path, times: list[float], folder: Path) -> list[tuple[int, int]]:
    """What is shown at these times: as a picture, and in a clip at its moment."""
    shown = []
    for at in times:
        clip = cut_clip(path, at, folder / "clip.mp4", before=0.5, after=0.5)
        shown.append((read_number(grab(path, at)), read_number(grab(clip.path, clip.offset))))
    return shown


class TestFoundAgain:
    @pytest.mark.parametrize(("ending", "codec"), [("ts", "libx264"), ("mpg", "mpeg2video"), ("flv", "libx264")])
    def test_frames_behind_a_join_where_the_clock_starts_anew(self, ending: str, codec: str, tmp_path: Path) -> None:
        path = tmp_path / f"joined.{ending}"
        make_joined(path, codec)
        report = DecodeReport()
        frames = list(sample(path, every=None, report=report))
        assert [read_number(frame.image) for frame in frames] == [*range(50), *range(1000, 1075)]
        assert [frame.seconds for frame in frames] == pytest.approx(np.arange(125) / 25, abs=0.041)
        assert report.times_corrected
        wanted = [frames[i] for i in (20, 60, 110)]
        assert numbers_at(path, [frame.seconds for frame in wanted], tmp_path) == [(20, 20), (1010, 1010), (1060, 1060)]

    def test_frames_of_an_index_that_calls_other_frames_key_frames(self, tmp_path: Path) -> None:
        path = tmp_path / "liar.mp4"
        make_clip(path, 6, 10, coding={"g": "10", "sc_threshold": "0"})
        shift_sync_table(path, 4)
        assert numbers_at(path, [2.6, 4.9], tmp_path) == [(26, 26), (49, 49)]

    def test_frames_of_an_avi_whose_frames_are_shown_in_another_order(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "b.ts", 4, 10, coding={"bf": "2", "g": "10"})
        copy_into(tmp_path / "b.ts", tmp_path / "b.avi")
        frames = list(sample(tmp_path / "b.avi", every=None))
        assert [read_number(frame.image) for frame in frames] == list(range(40))
        assert [frame.seconds for frame in frames] == pytest.approx(np.arange(40) / 10, abs=1e-3)
        assert numbers_at(tmp_path / "b.avi", [frames[33].seconds], tmp_path) == [(33, 33)]

    def test_a_thousand_frames_a_second(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "fast.mkv", 0.2, 1000)
        assert numbers_at(tmp_path / "fast.mkv", [0.05, 0.123], tmp_path) == [(50, 50), (123, 123)]


class TestLength:
    def test_a_fragmented_film_that_starts_late_is_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "frag.mp4"
        make_clip(path, 6, 10, start=5, options={"movflags": "frag_keyframe+empty_moov"}, coding={"g": "10"})
        report = DecodeReport()
        assert len(list(sample(path, every=None, report=report))) == 60
        assert report.end == pytest.approx(6, abs=0.01)

    @pytest.mark.parametrize(("name", "options"), [("live.webm", {"live": "1"}), ("raw.h264", {})])
    def test_a_file_without_a_length_gets_the_decoded_one(
        self, name: str, options: dict[str, str], tmp_path: Path
    ) -> None:
        codec = "libvpx" if "webm" in name else "libx264"
        make_clip(tmp_path / name, 2, 25, codec=codec, size=(96, 54), options=options)
        report = DecodeReport()
        list(sample(tmp_path / name, report=report))
        assert report.end == pytest.approx(2, abs=0.05)

    def test_a_frame_a_minute_gives_clips_of_the_asked_length(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "slow.mp4", times=[0.0, 60.0, 120.0], fps=1 / 60)
        clip = cut_clip(tmp_path / "slow.mp4", 60, tmp_path / "out.mp4")
        assert (clip.offset, clip.duration) == pytest.approx((3, 8), abs=0.02)

    def test_sound_ahead_of_the_picture_is_told(self, tmp_path: Path) -> None:
        make_late_picture(tmp_path / "late.mp4", 2.0)
        report = DecodeReport()
        assert next(sample(tmp_path / "late.mp4", every=None, report=report)).seconds == 0
        list(sample(tmp_path / "late.mp4", every=None, report=report))
        assert report.sound_lead == pytest.approx(2, abs=0.1)


MATRICES = {
    "a quarter to the right": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "half around": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "a quarter to the left": ((0, -1, 1, 0), np.rot90),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "turned and mirrored": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    "by 45 degrees": ((0.7071, 0.7071, -0.7071, 0.7071), lambda image: image),
    "by one degree": ((0.99985, 0.01745, -0.01745, 0.99985), lambda image: image),
    "twice the size": ((2, 0, 0, 2), lambda image: image),
    "nothing": ((0, 0, 0, 0), lambda image: image),
}


@pytest.mark.parametrize("name", MATRICES)
def test_pictures_and_clips_are_turned_as_browsers_turn_them(name: str, tmp_path: Path) -> None:
    matrix, shown = MATRICES[name]
    make_clip(tmp_path / "film.mp4", 1, 10)
    plain = grab(tmp_path / "film.mp4", 0.5).astype(int)
    set_matrix(tmp_path / "film.mp4", matrix)
    turned = grab(tmp_path / "film.mp4", 0.5)
    assert np.array_equal(turned, shown(plain))
    assert (probe(tmp_path / "film.mp4").width, probe(tmp_path / "film.mp4").height) == turned.shape[1::-1]
    clip = cut_clip(tmp_path / "film.mp4", 0.5, tmp_path / "out.mp4")
    assert np.abs(grab(clip.path, clip.offset) - shown(plain)).mean() < 6


class TestDamage:
    @pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
    def test_one_bad_picture_is_passed_over_and_counted(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"film.{ending}"
        codec = "mpeg4" if ending == "avi" else "libx264"
        make_clip(path, 10, 10, codec=codec, coding={"g": "10", "bf": "0"}, shots=(snow(),))
        spoil(path, [55])
        report = DecodeReport()
        frames = list(sample(path, every=None, report=report))
        assert 1 <= report.n_lost + report.n_damaged <= 2
        assert "of 100 pictures are damaged" in report.damage
        assert [read_number(frame.image) for frame in frames if frame.frame_index >= 60][-20:] == list(range(80, 100))
        assert report.end == pytest.approx(10, abs=0.11)

    @pytest.mark.parametrize("ending", ["mp4", "ts"])
    def test_many_bad_pictures_refuse_the_film_and_say_how_many(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"film.{ending}"
        make_clip(path, 10, 10, coding={"g": "10", "bf": "0"}, shots=(snow(),))
        spoil(path, list(range(40, 60)))
        with pytest.raises(VideoError, match=r"\d+ of \d+ pictures are damaged .*; copy or download it again"):
            list(sample(path))

    def test_an_encrypted_film_is_called_so(self, tmp_path: Path) -> None:
        key = {
            "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
            "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
        }
        make_clip(tmp_path / "locked.mp4", 1, options={"encryption_scheme": "cenc-aes-ctr", **key})
        with pytest.raises(VideoError, match=r"locked\.mp4 is encrypted; give a copy without protection"):
            list(sample(tmp_path / "locked.mp4"))

    def test_a_webp_that_moves_is_called_so(self, tmp_path: Path) -> None:
        stills = [Image.fromarray(flat(colour)(0)) for colour in ("red", "blue")]
        stills[0].save(tmp_path / "moves.webp", save_all=True, append_images=stills[1:])
        with pytest.raises(VideoError, match="is a WebP image, which is not read as a video"):
            probe(tmp_path / "moves.webp")


@pytest.mark.parametrize("ending", ["mkv", "mov"])
def test_the_film_is_taken_and_not_the_cover_in_front_of_it(ending: str, tmp_path: Path) -> None:
    make_covered(tmp_path / f"film.{ending}")
    frames = list(sample(tmp_path / f"film.{ending}", every=None))
    assert [read_number(frame.image) for frame in frames] == list(range(20))


def test_lines_of_two_moments_are_made_one_picture(tmp_path: Path) -> None:
    make_interlaced(tmp_path / "camera.mp4")
    with av.open(str(tmp_path / "camera.mp4")) as container:
        coded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = list(sample(tmp_path / "camera.mp4", every=None))
    assert len(frames) == len(coded) == 20

    def comb(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image[:, :, 0].astype(int), axis=0)).mean())

    assert comb(frames[10].image) < 0.3 * comb(coded[10])
    assert comb(grab(tmp_path / "camera.mp4", frames[10].seconds)) < 0.3 * comb(coded[10])


class TestColours:
    @pytest.mark.parametrize(("transfer", "white"), [(ColorTrc.SMPTE2084, 573), (ColorTrc.ARIB_STD_B67, 721)])
    def test_paper_white_of_hdr_is_bright_and_grey_stays_grey(
        self, transfer: ColorTrc, white: int, tmp_path: Path
    ) -> None:
        # The codes of white paper, 203 candela per square metre, by ITU-R BT.2408, in the limited range of 10 bits.
        make_hdr(tmp_path / "white.mp4", white, transfer)
        shown = grab(tmp_path / "white.mp4", 0.5)
        assert shown.mean() == pytest.approx(238, abs=6)
        assert np.ptp(shown.mean(axis=(0, 1))) < 3
        clip = cut_clip(tmp_path / "white.mp4", 0.5, tmp_path / "out.mp4")
        assert grab(clip.path, clip.offset).mean() == pytest.approx(shown.mean(), abs=3)

    @pytest.mark.parametrize(("size", "named"), [((1280, 720), 1), ((320, 180), 6)])
    def test_clips_say_how_their_colours_are_meant(self, size: tuple[int, int], named: int, tmp_path: Path) -> None:
        make_clip(tmp_path / "film.mp4", 0.5, size=size, shots=(flat("green", size),))
        clip = cut_clip(tmp_path / "film.mp4", 0.2, tmp_path / "out.mp4")
        with av.open(str(clip.path)) as container:
            frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_trc, frame.color_range) == (named, named, 1)
        assert np.abs(grab(clip.path, 0.2).astype(int) - grab(tmp_path / "film.mp4", 0.2)).mean() < 3

    def test_pictures_are_scaled_with_all_their_colours(self, tmp_path: Path) -> None:
        size = (320, 160)
        make_clip(tmp_path / "film.mp4", 0.2, shots=(confetti(8, size),), size=size, coding={"qp": "0"})
        squares = confetti(8, size)(0)[4::8, 4::8].astype(int)
        scaled = grab(tmp_path / "film.mp4", 0.0, width=40)
        assert np.abs(scaled - squares)[3:].mean() < 8  # The number of the frame covers the first rows.

    @pytest.mark.parametrize(
        ("size", "pixels", "clip_size"),
        [((96, 54), "bgr0", (192, 108)), ((24, 1080), "yuv420p", (24, 1080)), ((640, 1080), "yuv420p", (426, 720))],
    )
    def test_clips_of_tiny_pictures_keep_what_is_fine(
        self, size: tuple[int, int], pixels: str, clip_size: tuple[int, int], tmp_path: Path
    ) -> None:
        make_clip(tmp_path / "film.mkv", 0.2, shots=(confetti(2, size),), size=size, codec="ffv1", pixels=pixels)
        clip = cut_clip(tmp_path / "film.mkv", 0.1, tmp_path / "out.mp4")
        info = probe(clip.path)
        assert (info.width, info.height) == clip_size
        shown = Image.fromarray(grab(clip.path, clip.offset)).resize(size, Image.Resampling.BOX)
        apart = np.abs(grab(tmp_path / "film.mkv", 0.1).astype(int) - shown).mean()
        assert apart < 6 or size == (640, 1080)
