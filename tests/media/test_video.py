"""Decoding, sampling and cutting, on clips made here and on real footage where it lies beside the repository."""

from __future__ import annotations

import io
import json
import math
import shutil
import threading
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from engine.errors import VideoError
from engine.media.clips import cut_clip
from engine.media.sampling import Sample, encode_thumbnail, grab, probe, sample
from testing.clips import SIZE, flat, make_clip, make_sound, pan, read_number, snow

REAL = Path(__file__).resolve().parents[3] / "shared" / "videos"
REAL_VIDEOS = sorted(path for path in REAL.glob("*.m*")) if REAL.is_dir() else []
OPEN_FILES = Path("/proc/self/fd")
SAMPLES = Path(__file__).resolve().parents[2] / "data" / "videos"
REAL_CUTS = {"psd_testvideo.mp4": [1.0, 6.01], "torchcodec_nasa_13013.mp4": [8.008]}

real_footage = pytest.mark.parametrize(
    "path",
    REAL_VIDEOS or [pytest.param(None, marks=pytest.mark.skip(reason="there is no real footage in ../shared/videos"))],
    ids=lambda path: path.name if path else "none",
)


def frames_of(path: Path, **options: Any) -> list[Sample]:
    return list(sample(path, **options))


@cache
def decoded(path: Path) -> list[tuple[float, int]]:
    """Time and shot of every frame."""
    return [(frame.seconds, frame.shot) for frame in sample(path, every=None, width=32)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "even.mp4"
    make_clip(path, seconds=6, fps=10, shots=("red", "blue", "green"))
    return path


CONTAINERS = {
    "mp4": {},
    "mov": {},
    "mkv": {},
    "ts": {},
    "webm": {"codec": "libvpx"},
    "avi": {"codec": "mpeg4"},
}


@pytest.mark.parametrize("ending", CONTAINERS)
class TestEveryContainer:
    def test_frames_come_in_order_at_their_own_times(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"clip.{ending}"
        times = make_clip(path, seconds=2, **CONTAINERS[ending])
        found = frames_of(path, every=None)
        assert [read_number(frame.image) for frame in found] == list(range(20))
        assert [frame.frame_index for frame in found] == list(range(20))
        assert [frame.seconds for frame in found] == pytest.approx(times, abs=1e-3)

    def test_a_grabbed_frame_is_the_one_on_display(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"clip.{ending}"
        make_clip(path, seconds=4, **CONTAINERS[ending])
        assert [read_number(grab(path, at)) for at in (0, 0.05, 1.2, 3.55, 99)] == [0, 0, 12, 35, 39]

    def test_a_clip_shows_the_wanted_frame_at_its_offset(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"clip.{ending}"
        make_clip(path, seconds=4, **CONTAINERS[ending])
        found = cut_clip(path, 2.7, tmp_path / "out.mp4", before=1, after=0.5)
        assert found.offset == pytest.approx(1.0)
        assert read_number(grab(found.path, found.offset)) == 27


class TestTimes:
    @pytest.mark.parametrize("ending", ["mp4", "mkv"])
    def test_uneven_distances_are_kept(self, ending: str, tmp_path: Path) -> None:
        times = make_clip(tmp_path / f"vfr.{ending}", seconds=3, vfr=True)
        found = [frame.seconds for frame in sample(tmp_path / f"vfr.{ending}", every=None)]
        assert np.ptp(np.diff(times)) > 0.05
        assert found == pytest.approx(times, abs=1e-3)

    @pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
    def test_a_stream_that_starts_late_still_starts_at_zero(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"late.{ending}"
        times = make_clip(path, seconds=2, start=7.3)
        assert [frame.seconds for frame in sample(path, every=None)] == pytest.approx(times, abs=1e-3)
        assert probe(path).duration == pytest.approx(2.0, abs=0.11)
        assert read_number(grab(path, 1.3)) == 13

    def test_frames_without_a_pts_follow_each_other(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "raw.h264", seconds=2, fps=25)
        found = [frame.seconds for frame in sample(tmp_path / "raw.h264", every=None)]
        assert len(found) == 50
        assert np.diff(found) == pytest.approx(0.04, abs=1e-3)
        assert read_number(grab(tmp_path / "raw.h264", 1.2)) == 30

    def test_each_tick_takes_the_first_frame_at_or_after_it(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "gaps.mp4", times=[0.0, 0.9, 1.1, 1.9, 2.0, 5.5, 5.9, 6.2])
        assert [frame.seconds for frame in sample(tmp_path / "gaps.mp4", every=1)] == pytest.approx(
            [0, 1.1, 2, 5.5, 6.2]
        )

    def test_the_progress_callback_hears_rising_times_up_to_the_end(self, clip: Path) -> None:
        heard: list[float] = []
        list(sample(clip, on_time=heard.append))
        assert heard == sorted(heard)
        assert heard[0] == 0
        assert heard[-1] > 5

    def test_one_frame_is_a_video_too(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "one.mp4", times=[0.0], shots=("red",))
        (only,) = sample(tmp_path / "one.mp4")
        (middle,) = sample(tmp_path / "one.mp4", shots=True)
        assert (only.seconds, only.shot, middle.frame_index) == (0, 0, 0)
        assert cut_clip(tmp_path / "one.mp4", 0, tmp_path / "out.mp4").offset == 0
        assert read_number(grab(tmp_path / "out.mp4", 0)) == 0

    def test_a_step_of_nothing_is_refused_at_once(self, clip: Path) -> None:
        for step in (0, -1, 1e-4, math.nan):
            with pytest.raises(ValueError, match=r"The step between frames is .* s; give 0.001 or more"):
                sample(clip, every=step)

    @real_footage
    def test_real_footage_agrees_with_its_pts_to_half_a_frame(self, path: Path) -> None:
        with av.open(str(path)) as container:
            stream = max(container.streams.video, key=lambda stream: stream.width)  # The film, where there are several.
            pts = sorted(float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.size)
            half = 0.5 / float(stream.average_rate)
        found = decoded(path)
        assert [seconds for seconds, _ in found] == pytest.approx([time - pts[0] for time in pts], abs=half)


class TestPictures:
    def test_wide_pictures_are_scaled_down_and_keep_their_aspect(self, clip: Path) -> None:
        assert next(sample(clip)).image.shape == (180, 320, 3)
        assert next(sample(clip, width=160)).image.shape == (90, 160, 3)
        assert grab(clip, 1, width=100).shape == (56, 100, 3)

    def test_colours_are_those_that_were_drawn(self, clip: Path) -> None:
        middle = grab(clip, 1)[40:60].reshape(-1, 3).mean(axis=0)
        assert middle == pytest.approx([200, 40, 40], abs=8)

    def test_a_phone_video_is_turned_upright(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "phone.mp4", seconds=2, rotation=90)
        info = probe(tmp_path / "phone.mp4")
        image = grab(tmp_path / "phone.mp4", 1.3)
        assert (info.width, info.height) == (SIZE[1], SIZE[0])
        assert read_number(np.rot90(image, -1)) == 13
        found = cut_clip(tmp_path / "phone.mp4", 1.3, tmp_path / "out.mp4")
        assert read_number(np.rot90(grab(found.path, found.offset), -1)) == 13

    def test_a_thumbnail_is_a_small_jpeg(self, clip: Path) -> None:
        picture = Image.open(io.BytesIO(encode_thumbnail(grab(clip, 0), width=120)))
        assert (picture.format, picture.size) == ("JPEG", (120, 68))

    def test_a_thumbnail_is_never_scaled_up(self) -> None:
        small = np.zeros((20, 30, 3), np.uint8)
        assert Image.open(io.BytesIO(encode_thumbnail(small))).size == (30, 20)


class TestShots:
    def test_hard_cuts_between_flat_pictures_are_found_at_their_frame(self, clip: Path) -> None:
        assert [frame.shot for frame in sample(clip, every=None)] == [0] * 20 + [1] * 20 + [2] * 20

    def test_a_cut_on_the_second_and_on_the_last_frame_is_found(self, tmp_path: Path) -> None:
        def draw(number: int) -> np.ndarray:
            return flat("red" if number in (0, 19) else "blue")(0)

        make_clip(tmp_path / "edges.mp4", seconds=2, shots=(draw,))
        assert [frame.shot for frame in sample(tmp_path / "edges.mp4", every=None)] == [0] + [1] * 18 + [2]

    @pytest.mark.parametrize("pattern", [pan(), pan(speed=40), snow()], ids=["pan", "fast pan", "snow"])
    def test_motion_and_snow_are_no_cuts(self, pattern: object, tmp_path: Path) -> None:
        make_clip(tmp_path / "moving.mp4", seconds=3, fps=15, shots=(pattern,))
        assert {frame.shot for frame in sample(tmp_path / "moving.mp4", every=None)} == {0}

    def test_motion_drawn_at_half_the_frames_that_are_stored_is_no_cut(self, tmp_path: Path) -> None:
        wall = pan(speed=25)
        make_clip(tmp_path / "stutter.mp4", seconds=3, fps=15, shots=(lambda number: wall(number // 2),))
        assert {frame.shot for frame in sample(tmp_path / "stutter.mp4", every=None)} == {0}

    def test_a_screen_in_a_room_that_changes_its_picture_is_no_cut(self, tmp_path: Path) -> None:
        def draw(number: int) -> np.ndarray:
            room = flat("blue")(number)
            room[30:100, 60:180] = 235 if number >= 15 else 12
            return room

        make_clip(tmp_path / "screen.mp4", seconds=3, shots=(draw,))
        assert {frame.shot for frame in sample(tmp_path / "screen.mp4", every=None)} == {0}

    def test_a_flash_is_no_cut(self, tmp_path: Path) -> None:
        def draw(number: int) -> np.ndarray:
            return flat("white" if number == 15 else "blue")(number)

        make_clip(tmp_path / "flash.mp4", seconds=3, shots=(draw,))
        assert {frame.shot for frame in sample(tmp_path / "flash.mp4", every=None)} == {0}

    def test_a_cut_inside_motion_is_found(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "cut.mp4", seconds=4, shots=(snow(), "yellow", pan(speed=2)))
        found = [frame.shot for frame in sample(tmp_path / "cut.mp4", every=None)]
        assert [found.index(shot) for shot in (0, 1, 2)] == [0, 14, 27]

    def test_one_frame_from_the_middle_of_each_shot(self, clip: Path) -> None:
        found = frames_of(clip, shots=True)
        assert [frame.shot for frame in found] == [0, 1, 2]
        assert [frame.seconds for frame in found] == pytest.approx([1, 3, 5], abs=0.3)

    def test_a_long_shot_gives_a_frame_about_every_five_seconds(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "long.mp4", seconds=16, fps=8, shots=("red",))
        assert [frame.seconds for frame in sample(tmp_path / "long.mp4", shots=True)] == pytest.approx(
            [2.5, 7.5, 12.5], abs=0.7
        )

    @real_footage
    def test_real_footage_is_cut_where_it_was_cut_and_nowhere_else(self, path: Path) -> None:
        cuts = [two[0] for one, two in pairwise(decoded(path)) if one[1] != two[1]]
        assert cuts == pytest.approx(REAL_CUTS.get(path.name, []), abs=0.02)

    @pytest.mark.parametrize("name", ["town-09-street-night-snow", "town-14-kitchen-morning", "town-23-night-bus"])
    def test_the_shots_of_the_sample_videos_are_those_they_were_drawn_with(self, name: str) -> None:
        shots = json.loads((SAMPLES / "shots.json").read_text())[name]
        cuts = [two[0] for one, two in pairwise(decoded(SAMPLES / f"{name}.mp4")) if one[1] != two[1]]
        assert cuts == pytest.approx([shot["start_s"] for shot in shots[1:]], abs=0.05)


class TestClips:
    def test_a_clip_plays_in_browsers(self, clip: Path, tmp_path: Path) -> None:
        found = cut_clip(clip, 4.5, tmp_path / "out.mp4", before=2, after=1)
        with av.open(str(found.path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert next(container.decode(stream)).pts == 0
            assert not container.streams.audio
        data = found.path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")
        assert (found.start, found.offset) == (2.5, 2.0)
        assert found.duration == pytest.approx(3.1, abs=0.05)
        assert found.duration == pytest.approx(probe(found.path).duration, abs=0.05)

    def test_every_frame_of_an_uneven_video_sits_at_its_time_in_the_clip(self, tmp_path: Path) -> None:
        times = make_clip(tmp_path / "vfr.mp4", seconds=6, vfr=True)
        found = cut_clip(tmp_path / "vfr.mp4", times[41], tmp_path / "out.mp4", before=2, after=1)
        inside = frames_of(found.path, every=None)
        assert read_number(grab(found.path, found.offset)) == 41
        for frame in inside[1:]:
            assert found.start + frame.seconds == pytest.approx(times[read_number(frame.image)], abs=2e-3)

    def test_the_last_frame_stays_on_display_as_long_as_in_the_video(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "slides.mkv", times=[0, 0.1, 0.2, 10, 20, 20.1])
        found = cut_clip(tmp_path / "slides.mkv", 10, tmp_path / "out.mp4", before=2, after=4)
        assert [frame.seconds for frame in sample(found.path, every=None)] == pytest.approx([0, 2], abs=1e-3)
        assert (found.start, found.offset, found.duration) == pytest.approx((8, 2, 6), abs=0.01)
        assert probe(found.path).duration == pytest.approx(6, abs=0.01)

    def test_a_moment_near_the_start_gives_a_shorter_lead(self, clip: Path, tmp_path: Path) -> None:
        found = cut_clip(clip, 0.8, tmp_path / "out.mp4")
        assert (found.start, found.offset) == (0, 0.8)
        assert read_number(grab(found.path, found.offset)) == 8

    def test_odd_sizes_are_made_even_and_tall_pictures_limited(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "odd.mp4", seconds=1, size=(426, 240))
        found = cut_clip(tmp_path / "odd.mp4", 0.5, tmp_path / "out.mp4", height=101)
        info = probe(found.path)
        assert (info.width % 2, info.height) == (0, 100)

    def test_a_moment_past_the_end_is_refused_and_leaves_no_file(self, clip: Path, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match=r"even\.mp4 ends at 6\.0 s, before 60\.0 s"):
            cut_clip(clip, 60, tmp_path / "out.mp4")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_there_is_refused_in_one_sentence(self, clip: Path, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match=r"The clip out\.mp4 could not be written"):
            cut_clip(clip, 1, tmp_path / "none" / "out.mp4")

    def test_a_clip_replaces_an_older_one_whole(self, clip: Path, tmp_path: Path) -> None:
        (tmp_path / "out.mp4").write_bytes(b"old")
        cut_clip(clip, 1, tmp_path / "out.mp4")
        assert probe(tmp_path / "out.mp4").n_frames > 10
        assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]

    def test_clips_can_be_cut_in_several_threads_at_once(self, clip: Path, tmp_path: Path) -> None:
        shown: dict[int, int] = {}

        def cut(number: int) -> None:
            found = cut_clip(clip, number / 10, tmp_path / f"{number}.mp4", before=1, after=0.5)
            shown[number] = read_number(grab(found.path, found.offset))

        threads = [threading.Thread(target=cut, args=(number,)) for number in (5, 23, 41)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shown == {5: 5, 23: 23, 41: 41}


class TestOddStreams:
    def test_a_recording_that_changes_its_size_is_read_to_the_end(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "wide.ts", seconds=2, codec="mpeg2video", fps=25)
        make_clip(tmp_path / "small.ts", seconds=2, codec="mpeg2video", fps=25, size=(160, 90), start=2)
        both = tmp_path / "both.ts"
        both.write_bytes((tmp_path / "wide.ts").read_bytes() + (tmp_path / "small.ts").read_bytes())
        found = frames_of(both, every=1)
        assert {frame.image.shape for frame in found} == {(180, 320, 3), (90, 160, 3)}
        assert found[-1].seconds == pytest.approx(3, abs=0.1)
        cut_clip(both, 2, tmp_path / "out.mp4", before=1, after=1)
        assert {frame.image.shape for frame in sample(tmp_path / "out.mp4", every=None)} == {(180, 320, 3)}

    @pytest.mark.parametrize(
        ("ending", "codec", "pixels"),
        [("avi", "mjpeg", "yuvj420p"), ("avi", "rawvideo", "bgr24"), ("mkv", "ffv1", "gray"), ("gif", "gif", "rgb8")],
    )
    def test_other_kinds_of_pixels_are_read_cut_and_shown(
        self, ending: str, codec: str, pixels: str, tmp_path: Path
    ) -> None:
        path = tmp_path / f"odd.{ending}"
        make_clip(path, seconds=2, codec=codec, pixels=pixels)
        found = frames_of(path, every=None)
        assert [frame.shot for frame in found] == [0] * 10 + [1] * 10
        clip = cut_clip(path, 1.5, tmp_path / "out.mp4", before=1)
        source = grab(path, 1.5).mean(axis=(0, 1))
        assert grab(clip.path, 1).mean(axis=(0, 1)) == pytest.approx(source, abs=6)

    def test_a_picture_of_a_few_pixels_is_read_too(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "tiny.mp4", seconds=2, size=(16, 16))
        assert [frame.shot for frame in sample(tmp_path / "tiny.mp4", every=1)] == [0, 1]


class TestOddNames:
    @pytest.mark.parametrize(
        "name",
        [
            'it\'s "quoted".mp4',
            "two  words.mp4",
            "<script>alert(1)<.mp4",
            "Đường phố 東京.mp4",
            "a:b|c%d.mp4",
            "-i.mp4",
        ],
    )
    def test_names_that_trip_others_work(self, name: str, clip: Path, tmp_path: Path) -> None:
        path = tmp_path / name
        shutil.copy(clip, path)
        assert probe(path).duration == pytest.approx(6)
        assert len(frames_of(path)) == 6
        assert read_number(grab(cut_clip(path, 1, tmp_path / f"out {name}").path, 1)) == 10


class TestBrokenInput:
    """Each fault has one sentence, which names the file and says what to do."""

    def refusal(self, path: Path) -> str:
        sentences = set()
        for verb in (probe, frames_of, lambda p: grab(p, 1), lambda p: cut_clip(p, 1, p.with_name("out.mp4"))):
            with pytest.raises(VideoError) as caught:
                verb(path)
            sentences.add(str(caught.value))
        assert len(sentences) == 1
        assert "\n" not in next(iter(sentences))
        return sentences.pop()

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty.mp4").touch()
        assert self.refusal(tmp_path / "empty.mp4") == "empty.mp4 is empty; copy or download it again."

    def test_a_text_under_the_name_of_a_video(self, tmp_path: Path) -> None:
        (tmp_path / "text.mp4").write_text("Dear diary, " * 500)
        assert "text.mp4 is not a video that can be read" in self.refusal(tmp_path / "text.mp4")

    def test_a_picture_under_the_name_of_a_video(self, tmp_path: Path) -> None:
        Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
        (tmp_path / "picture.png").rename(tmp_path / "picture.mp4")
        assert "picture.mp4 is not a video that can be read" in self.refusal(tmp_path / "picture.mp4")

    @pytest.mark.parametrize(
        "text", ["#EXTM3U\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{}'\n"]
    )
    def test_a_playlist_cannot_reach_other_files(self, text: str, clip: Path, tmp_path: Path) -> None:
        (tmp_path / "list.mp4").write_text(text.format(clip))
        assert "list.mp4 is not a video that can be read" in self.refusal(tmp_path / "list.mp4")

    def test_sound_without_a_picture(self, tmp_path: Path) -> None:
        make_sound(tmp_path / "sound.mp4")
        assert self.refusal(tmp_path / "sound.mp4") == "sound.mp4 holds no moving picture; give a video file."

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert "There is no file" in self.refusal(tmp_path / "none.mp4")

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "folder.mp4").mkdir()
        assert self.refusal(tmp_path / "folder.mp4") == "folder.mp4 is a folder; give a video file."

    def test_a_download_that_stopped_before_the_index(self, clip: Path, tmp_path: Path) -> None:
        (tmp_path / "torn.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
        assert self.refusal(tmp_path / "torn.mp4") == "torn.mp4 is cut short or damaged; copy or download it again."

    @pytest.mark.parametrize("ending", ["mp4", "mkv"])
    def test_a_download_that_stopped_in_the_picture_names_the_time_reached(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"torn.{ending}"
        make_clip(path, seconds=10, shots=(snow(),), options={"movflags": "+faststart"} if ending == "mp4" else {})
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(
            VideoError, match=rf"torn\.{ending} is damaged or cut short after [4-7]\.\d\d s; copy"
        ) as caught:
            frames_of(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="this system does not list a process's open files")
    def test_the_file_is_closed_when_the_reader_stops_early(self, clip: Path) -> None:
        frames = sample(clip)
        next(frames)
        assert clip in {Path(entry).resolve() for entry in OPEN_FILES.iterdir()}
        frames.close()
        assert clip not in {Path(entry).resolve() for entry in OPEN_FILES.iterdir()}
