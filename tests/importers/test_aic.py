"""Archives in the AI Challenge layout: every variant goes in, what is broken is named and the rest goes in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.collection import Collection
from engine.importers.aic import import_aic
from engine.importers.aic_layout import survey
from engine.types import Filter
from testing.clips import make_clip

DIM = 16
SAMPLE = Path(__file__).resolve().parents[3] / "shared" / "aic-sample"


class Layout:
    """Writes a small archive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def features(self, video: str, n: int = 6, where: str = "clip-features-32", dim: int = DIM, seed: int = 0) -> Path:
        path = self.put(f"{where}/{video}.npy", b"")
        np.save(path, np.random.default_rng([seed, *os.fsencode(video)]).normal(size=(n, dim)).astype(np.float16))
        return path

    def map(self, video: str, n: int = 6) -> Path:
        lines = [f"{i + 1},{i * 2.0},25.0,{i * 50}" for i in range(n)]
        return self.put(f"map-keyframes/{video}.csv", "\n".join(["n,pts_time,fps,frame_idx", *lines]) + "\n")

    def info(self, video: str, **told: object) -> Path:
        return self.put(f"media-info/{video}.json", json.dumps(told))

    def keyframes(self, video: str, n: int = 6, where: str = "keyframes") -> None:
        for i in range(n):
            path = self.put(f"{where}/{video}/{i + 1:03d}.jpg", b"")
            Image.new("RGB", (64, 36), (40 * i, 20, 250 - 40 * i)).save(path)

    def video(self, name: str, n: int = 6) -> None:
        self.features(name, n)
        self.map(name, n)


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path / "archive")
    for name in ("L01_V001", "L01_V002"):
        made.video(name)
    return made


@pytest.fixture
def collection(tmp_path):
    with Collection.create(tmp_path / "c", dim=DIM, n_shards=2) as made:
        yield made


def frames(collection: Collection, video: str) -> list:
    hits = collection.search(np.ones(DIM), 1000, exact=True, where=Filter(videos=(video,))).hits
    return sorted(hits, key=lambda hit: hit.frame_id)


class TestWhatGoesIn:
    def test_rows_become_frames_at_the_times_of_the_map(self, layout, collection):
        report = import_aic(collection, layout.folder)
        assert (report.added, report.refused, report.notes) == (("L01_V001", "L01_V002"), (), ())
        assert (report.n_frames, collection.n_frames, collection.built) == (12, 12, True)
        stored = frames(collection, "L01_V002")
        assert [frame.frame_index for frame in stored] == [0, 50, 100, 150, 200, 250]
        assert [frame.seconds for frame in stored] == [0, 2, 4, 6, 8, 10]
        rows = np.load(layout.folder / "clip-features-32/L01_V002.npy").astype(np.float32)
        for row, frame in zip(rows, stored, strict=True):
            np.testing.assert_allclose(collection.vector(frame.frame_id), row / np.linalg.norm(row), atol=1e-3)
        assert collection.video("L01_V001").fps == 25.0

    def test_frames_that_the_map_repeats_are_kept(self, layout, collection):
        layout.put(
            "map-keyframes/L01_V001.csv", "n,pts_time,fps,frame_idx\n1,0,25,0\n2,1,25,25\n3,1,25,25\n4,2,25,50\n"
        )
        layout.features("L01_V001", 4)
        import_aic(collection, layout.folder)
        assert [frame.frame_index for frame in frames(collection, "L01_V001")] == [0, 25, 25, 50]

    def test_media_info_tells_title_and_links(self, layout, collection):
        layout.info(
            "L01_V001",
            title="60 Giây Sáng",
            author="60 Giây",
            publish_date="31/10/2023",
            length=1267,
            watch_url="https://example.org/watch",
            keywords=["news"],
        )
        import_aic(collection, layout.folder)
        info = collection.video("L01_V001")
        assert (info.title, info.duration) == ("60 Giây Sáng", 1267.0)
        assert dict(info.about) == {
            "author": "60 Giây",
            "publish_date": "31/10/2023",
            "watch_url": "https://example.org/watch",
            "length": "1267",
        }
        assert collection.video("L01_V002").title == "L01_V002"

    def test_objects_become_tags_from_one_file_or_from_one_per_keyframe(self, layout, collection):
        layout.put(
            "objects/L01_V001.json", json.dumps({"001": ["Boat", "Human face", "Boat"], "003": ["Car"], "099": ["Dog"]})
        )
        for number, labels, scores in (
            ("001", ["Boat", "Tree", "Car"], ["0.91", "0.4", "0.39"]),
            ("006", ["Land vehicle"], [0.5]),
        ):
            detected = {"detection_class_entities": labels, "detection_scores": scores}
            layout.put(f"objects/L01_V002/{number}.json", json.dumps(detected))
        import_aic(collection, layout.folder)
        assert [frame.tags for frame in frames(collection, "L01_V001")] == [
            ("object:boat", "object:human_face"),
            (),
            ("object:car",),
            (),
            (),
            (),
        ]
        assert [frame.tags for frame in frames(collection, "L01_V002")] == [
            ("object:boat", "object:tree"),
            *[()] * 4,
            ("object:land_vehicle",),
        ]

    @pytest.mark.parametrize("where", ["clip-features", "clip-features-32", "clip-features-b16/nested"])
    def test_the_folder_of_features_may_be_called_otherwise(self, tmp_path, collection, where):
        layout = Layout(tmp_path / "other")
        layout.features("a", where=where)
        layout.map("a")
        assert import_aic(collection, layout.folder).added == ("a",)

    def test_several_folders_of_features_have_to_be_told_apart(self, layout, collection):
        layout.features("L01_V001", where="clip-features-b16", dim=DIM)
        with pytest.raises(ValueError, match=r"clip-features-32, clip-features-b16\).*as the features"):
            import_aic(collection, layout.folder)
        archive = survey(layout.folder, layout.folder / "clip-features-b16")
        assert import_aic(collection, archive).added == ("L01_V001",)

    def test_videos_and_keyframes_are_remembered_and_shown(self, layout, collection):
        layout.keyframes("L01_V001", where="keyframes/Keyframes_L01")
        (layout.folder / "video").mkdir()
        make_clip(layout.folder / "video" / "L01_V002.mp4", 3.0, size=(96, 54))
        import_aic(collection, layout.folder)
        first, last = (frames(collection, "L01_V001")[i] for i in (0, -1))
        for frame, colour in ((first, (0, 20, 250)), (last, (200, 20, 50))):
            with Image.open(collection.thumbnail(frame)) as image:
                assert np.abs(np.array(image.getpixel((30, 18))) - colour).max() < 12
        assert collection.video("L01_V002").source.endswith("video/L01_V002.mp4")
        with Image.open(collection.thumbnail(frames(collection, "L01_V002")[0])) as image:
            assert image.size == (96, 54)
        assert collection.clip(frames(collection, "L01_V002")[1]).path.is_file()

    def test_a_video_without_features_is_embedded_from_its_keyframes(self, layout, tmp_path, town_encoder):
        layout.map("L02_V001", 3)
        layout.keyframes("L02_V001", 3)
        with Collection.create(tmp_path / "town", dim=town_encoder.dim, encoder="town", n_shards=2) as collection:
            collection.use_encoder(town_encoder)
            report = import_aic(collection, layout.folder)
            assert report.added == ("L02_V001",)
            assert [name for name, _ in report.refused] == ["L01_V001", "L01_V002"]
            image = np.asarray(Image.open(layout.folder / "keyframes/L02_V001/002.jpg"))
            wanted = town_encoder.encode_images([image])[0]
            stored = [collection.vector(i) for i in range(3)]
            assert int(np.argmax([vector @ wanted for vector in stored])) == 1
            assert stored[1] @ wanted > 0.999
            assert import_aic(collection, layout.folder).skipped == ("L02_V001",)


class TestAnotherRun:
    def test_known_videos_are_skipped_and_new_ones_go_in(self, layout, collection):
        import_aic(collection, layout.folder)
        generation = collection.generation
        report = import_aic(collection, layout.folder)
        assert (report.added, report.skipped, report.n_frames) == ((), ("L01_V001", "L01_V002"), 0)
        assert collection.generation == generation
        layout.video("L01_V003")
        report = import_aic(collection, layout.folder)
        assert (report.added, report.skipped) == (("L01_V003",), ("L01_V001", "L01_V002"))

    @pytest.mark.parametrize("change", ["features", "map", "objects"])
    def test_other_content_under_a_known_name_is_refused(self, layout, collection, change):
        layout.put("objects/L01_V001.json", '{"001": ["Boat"]}')
        import_aic(collection, layout.folder)
        if change == "features":
            layout.features("L01_V001", seed=1)
        elif change == "map":
            layout.put("map-keyframes/L01_V001.csv", layout.map("L01_V001").read_text().replace("250", "251"))
        else:
            layout.put("objects/L01_V001.json", '{"001": ["Car"]}')
        report = import_aic(collection, layout.folder)
        assert report.skipped == ("L01_V002",)
        assert [name for name, _ in report.refused] == ["L01_V001"]
        assert "other content" in report.refused[0][1]

    @pytest.mark.parametrize(("limit", "value"), [("GROUP", 10), ("GROUP_NBYTES", 6 * DIM * 2)])
    def test_groups_of_videos_are_stored_one_after_the_other(self, layout, collection, monkeypatch, limit, value):
        monkeypatch.setattr(f"engine.importers.aic.{limit}", value)
        for i in range(3, 8):
            layout.video(f"L01_V00{i}")
        before = collection.generation
        report = import_aic(collection, layout.folder, build=False)
        assert len(report.added) == 7
        assert collection.generation >= before + 7
        assert [frame.frame_id for frame in frames(collection, "L01_V004")] == list(range(18, 24))


class TestWhatIsBroken:
    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda at: (at.folder / "map-keyframes/L01_V001.csv").unlink(), "no map-keyframes/L01_V001.csv"),
            (
                lambda at: (at.folder / "clip-features-32/L01_V001.npy").unlink(),
                "neither features nor keyframe images",
            ),
            (lambda at: at.features("L01_V001", 5), "5 rows of features and 6 keyframes"),
            (lambda at: at.features("L01_V001", dim=DIM + 1), "rows of 17 numbers; this collection stores 16"),
            (lambda at: at.put("clip-features-32/L01_V001.npy", b"\x93NUMPY what"), "cannot be read as features"),
            (lambda at: at.put("clip-features-32/L01_V001.npy", b""), "cannot be read as features"),
            (
                lambda at: np.save(at.folder / "clip-features-32/L01_V001.npy", np.ones((6, DIM), int)),
                "not rows of floating-point",
            ),
            (
                lambda at: np.save(
                    at.folder / "clip-features-32/L01_V001.npy", np.diag(np.arange(DIM, dtype=np.float32))[:6]
                ),
                "Row 0 of its features, counted from 0, is all zeros",
            ),
            (
                lambda at: np.save(at.folder / "clip-features-32/L01_V001.npy", np.full((6, DIM), np.nan)),
                "Row 0 of its features",
            ),
            (lambda at: at.put("map-keyframes/L01_V001.csv", "n,pts_time,fps\n1,2,3\n"), "no column 'frame_idx'"),
            (lambda at: at.put("map-keyframes/L01_V001.csv", ""), "names no keyframes"),
            (lambda at: at.put("map-keyframes/L01_V001.csv", b"\xff\xfe\x00n"), "cannot be read as a keyframe map"),
            (
                lambda at: at.put("map-keyframes/L01_V001.csv", "n,pts_time,fps,frame_idx\n2,0,25,0\n"),
                "does not count 1 to 1",
            ),
            (
                lambda at: at.put("map-keyframes/L01_V001.csv", "n,pts_time,fps,frame_idx\n1,-2,25,0\n"),
                "negative or not a number",
            ),
            (
                lambda at: at.put("map-keyframes/L01_V001.csv", "n,pts_time,fps,frame_idx\n1,soon,25,0\n"),
                "cannot be read as a keyframe map",
            ),
            (lambda at: at.put("media-info/L01_V001.json", "{"), "not valid JSON"),
            (lambda at: at.put("media-info/L01_V001.json", "[]"), "one object of media info"),
            (lambda at: at.put("objects/L01_V001.json", "{"), "not valid JSON"),
            (lambda at: at.put("objects/L01_V001.json", '{"first": []}'), "by the number of the keyframe"),
            (lambda at: at.put("objects/L01_V001.json", '{"²": []}'), "by the number of the keyframe"),
            (lambda at: at.put("objects/L01_V001.json", '{"001": "Boat"}'), "does not list objects"),
            (lambda at: at.put("objects/L01_V001.json", '{"001": ["\\ud83d"]}'), "not valid text"),
            (lambda at: at.put("media-info/L01_V001.json", '{"title": "\\ud83d"}'), "text that is not valid"),
            (
                lambda at: at.put(
                    "objects/L01_V001/001.json", '{"detection_class_entities": ["a"], "detection_scores": []}'
                ),
                "not a score for each",
            ),
            (
                lambda at: at.put(
                    "objects/L01_V001/001.json", '{"detection_class_entities": ["a"], "detection_scores": ["high"]}'
                ),
                "not a score for each",
            ),
        ],
    )
    def test_the_video_is_named_with_one_sentence_and_the_others_go_in(self, layout, collection, spoil, why):
        spoil(layout)
        report = import_aic(collection, layout.folder)
        assert report.added == ("L01_V002",)
        ((name, reason),) = report.refused
        assert name == "L01_V001"
        assert why in reason
        assert "\n" not in reason
        assert [info.video_id for info in collection.videos()] == ["L01_V002"]

    def test_keyframes_without_an_encoder_and_with_gaps_are_named(self, layout, collection):
        layout.map("L02_V001", 3)
        layout.keyframes("L02_V001", 3)
        layout.map("L02_V002", 3)
        layout.keyframes("L02_V002", 2)
        reasons = dict(import_aic(collection, layout.folder).refused)
        assert "names no encoder" in reasons["L02_V001"]
        assert "2 keyframe images are not numbered 1 to 3" in reasons["L02_V002"]

    def test_a_name_that_is_not_utf8_is_told_so(self, layout, collection):
        odd = os.fsdecode(b"L09_V\xff")
        try:
            layout.video(odd)
        except OSError:
            pytest.skip("this file system takes no such names")
        report = import_aic(collection, layout.folder)
        assert report.added == ("L01_V001", "L01_V002")
        assert [name for name, _ in report.refused] == [odd]
        assert "not valid UTF-8" in report.refused[0][1]

    def test_files_of_no_video_are_named(self, layout, collection):
        layout.info("L09_V001", title="Nobody")
        layout.info("L09_V002", title="Nobody")
        layout.put("objects/L09_V001.json", "{}")
        layout.put("video/L09_V003.mp4", b"")
        notes = import_aic(collection, layout.folder).notes
        assert [note.split(",")[0] for note in notes] == [
            "media-info: 2 without features or keyframe map were left out",
            "objects: 1 without features or keyframe map were left out",
            "video: 1 without features or keyframe map were left out",
        ]
        assert notes[0].endswith("such as L09_V001.json.")

    def test_a_folder_of_something_else_is_refused(self, tmp_path, collection):
        with pytest.raises(ValueError, match="no folder"):
            import_aic(collection, tmp_path / "gone")
        (tmp_path / "photos").mkdir()
        with pytest.raises(ValueError, match="not an archive in the AI Challenge layout"):
            import_aic(collection, tmp_path / "photos")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the AI Challenge sample is not here")
def test_a_real_archive_goes_in_whole_and_a_second_run_skips_it(tmp_path):
    with Collection.create(tmp_path / "c", dim=512, n_shards=20) as collection:
        report = import_aic(collection, SAMPLE, build=False)
        assert (len(report.added), report.n_frames, report.refused, report.notes) == (355, 93_899, (), ())
        rows = np.load(SAMPLE / "clip-features-32" / "L23_V025.npy").astype(np.float32)
        best = collection.search(rows[7], 1, exact=True, where=Filter(videos=("L23_V025",))).hits[0]
        line = (SAMPLE / "map-keyframes" / "L23_V025.csv").read_text().splitlines()[8].split(",")
        assert (best.seconds, best.frame_index) == (float(line[1]), int(line[3]))
        assert collection.tags()["object:person"] > 40_000
        again = import_aic(collection, SAMPLE, build=False)
        assert (len(again.skipped), again.added, again.refused) == (355, (), ())
