"""Vectors and tables of frames: in from any model, out again, and nothing stored that does not fit."""

from __future__ import annotations

import gzip
import pickle
import unicodedata
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from engine.collection import Collection
from engine.frames.user_tables import read_table
from engine.importers.vectors import ROWS_PER_BATCH, import_table
from engine.types import Filter, FrameBatch, NewVideo
from testing.worlds import DIM, Flat, assert_answers, fill, flip, make_video, queries

VIDEOS = [make_video(i, 30) for i in range(4)]


def vectors_of(n: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)


def plain(n: int, **changed: object) -> dict[str, object]:
    """Columns of a table of n frames of the videos a and b, which take turns."""
    columns = {
        "video_id": ["ab"[i % 2] for i in range(n)],
        "frame_index": np.arange(n, dtype=np.int64) * 5,
        "seconds": np.arange(n) * 0.2,
    }
    return {name: values for name, values in {**columns, **changed}.items() if values is not None}


class Files:
    """Writes pairs of files into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, columns: dict[str, object], name: str = "f.parquet") -> Path:
        path = self.folder / name
        table = pa.table(columns)
        if name.endswith(".csv"):
            pa.csv.write_csv(table, path)
        elif name.endswith(".parquet"):
            pa.parquet.write_table(table, path)
        else:
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        return path

    def vectors(self, rows: np.ndarray, name: str = "v.npy") -> Path:
        np.save(self.folder / name, rows)
        return self.folder / name


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.fixture
def empty(tmp_path):
    with Collection.create(tmp_path / "c", dim=DIM, n_shards=3) as collection:
        yield collection


def everything(collection: Collection) -> list[tuple]:
    """All that is known of each live frame, ids aside, in input order."""
    hits = collection.search(queries(1)[0], 10_000, exact=True).hits
    return [
        (hit.video_id, hit.title, hit.frame_index, hit.seconds, hit.captured_at, hit.shot, hit.tags)
        for hit in sorted(hits, key=lambda hit: hit.frame_id)
    ]


class TestImport:
    def test_row_i_of_the_table_is_row_i_of_the_vectors(self, empty, files):
        rows = vectors_of(50)
        report = import_table(empty, files.vectors(rows), files.table(plain(50)))
        assert (report.added, report.skipped, report.refused, report.n_frames) == (("a", "b"), (), (), 50)
        assert report.seconds > 0
        for i in (0, 7, 49):
            frame = empty.frame(i)
            assert (frame.video_id, frame.frame_index, frame.seconds) == ("ab"[i % 2], i * 5, i * 0.2)
            np.testing.assert_allclose(empty.vector(i), rows[i] / np.linalg.norm(rows[i]), atol=1e-3)

    def test_it_builds_at_the_end_unless_told_not_to(self, empty, files, tmp_path):
        v, f = files.vectors(vectors_of(50)), files.table(plain(50))
        with Collection.create(tmp_path / "other", dim=DIM) as other:
            import_table(other, v, f, build=False)
            assert not other.built
        import_table(empty, v, f)
        assert empty.built

    @pytest.mark.parametrize("name", ["f.parquet", "f.arrow", "f.feather", "f.csv"])
    def test_every_kind_of_table_says_the_same(self, empty, files, name):
        at = datetime(2024, 5, 1, 18, 30)
        tags: list = [["object:red car", "scene:street"], [], None, ["scene:street"]]
        if name.endswith(".csv"):
            tags = ["object:red car| scene:street", "", None, "scene:street"]
        columns = plain(
            4,
            captured_at=pa.array([at, at + timedelta(seconds=1.5), None, at], pa.timestamp("us")),
            tags=tags,
            shot=pa.array([0, None, 2, 3], pa.int32()),
            title=["Alpha", None, "ignored", "Beta"],
        )
        import_table(empty, files.vectors(vectors_of(4)), files.table(columns, name))
        assert everything(empty) == [
            ("a", "Alpha", 0, 0.0, at, 0, ("object:red car", "scene:street")),
            ("b", "Beta", 5, 0.2, at + timedelta(seconds=1.5), -1, ()),
            ("a", "Alpha", 10, 0.4, None, 2, ()),
            ("b", "Beta", 15, pytest.approx(0.6), at, 3, ("scene:street",)),
        ]
        assert empty.video("b").captured_at == at + timedelta(seconds=1.3)

    def test_other_kinds_of_text_and_lists_are_fine(self, empty, files):
        views = pa.array(["a", "a", "b", "b"], pa.string_view())
        tags = pa.array([["x:1"], [], None, ["x:2", "x:1"]], pa.large_list(pa.string_view()))
        table = files.table(
            plain(4, video_id=views, tags=tags, title=pa.array(["A"] * 4).dictionary_encode()), "f.arrow"
        )
        import_table(empty, files.vectors(vectors_of(4)), table)
        assert [(each[0], each[1], each[6]) for each in everything(empty)] == [
            ("a", "A", ("x:1",)),
            ("a", "A", ()),
            ("b", "A", ()),
            ("b", "A", ("x:1", "x:2")),
        ]

    def test_a_csv_as_spreadsheets_write_it_is_fine(self, empty, files):
        text = '\ufeffvideo_id,frame_index,seconds,captured_at,tags\r\n"a, b",0,0,2024-05-01 10:00:00,\r\nNA,7,0.5,,x:1\r\n'
        (files.folder / "f.csv").write_bytes(text.encode())
        import_table(empty, files.vectors(vectors_of(2)), files.folder / "f.csv")
        assert [(each[0], each[2], each[4], each[6]) for each in everything(empty)] == [
            ("a, b", 0, datetime(2024, 5, 1, 10), ()),
            ("NA", 7, None, ("x:1",)),
        ]

    @pytest.mark.parametrize("name", ["f.csv.gz", "f.tsv", "f.csv"])
    def test_lines_of_text_may_be_packed_and_have_other_delimiters(self, empty, files, name):
        text = "video_id;frame_index;seconds;shot;tags\na;0;0;1,0;x:1\nb;7,0;0,5;;\n"
        if name != "f.csv":
            text = text.replace(",", ".").replace(";", "\t")
        content = text.encode()
        (files.folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        import_table(empty, files.vectors(vectors_of(2)), files.folder / name)
        assert [(*row[:4], *row[5:]) for row in everything(empty)] == [
            ("a", "a", 0, 0.0, 1, ("x:1",)),
            ("b", "b", 7, 0.5, -1, ()),
        ]

    def test_blanks_around_names_of_columns_and_ids_are_taken_off(self, empty, files):
        text = "video_id , frame_index, seconds, captured_at\n a, 0, 0,2024-05-01 10:00\na , 1, 1,\n"
        (files.folder / "f.csv").write_text(text)
        import_table(empty, files.vectors(vectors_of(2)), files.folder / "f.csv")
        assert [(row[0], row[2], row[4]) for row in everything(empty)] == [
            ("a", 0, datetime(2024, 5, 1, 10)),
            ("a", 1, None),
        ]

    def test_times_may_be_texts_as_they_are_in_csv(self, empty, files):
        table = files.table(plain(2, captured_at=["2024-05-01 10:00:30.5", None]))
        import_table(empty, files.vectors(vectors_of(2)), table)
        assert [row[4] for row in everything(empty)] == [datetime(2024, 5, 1, 10, 0, 30, 500_000), None]

    def test_a_table_that_is_named_like_another_kind_is_called_what_it_is(self, empty, files):
        v = files.vectors(vectors_of(2))
        files.table(plain(2)).rename(files.folder / "f.csv")
        with pytest.raises(ValueError, match=r"is a Parquet file; name it \.parquet"):
            import_table(empty, v, files.folder / "f.csv")
        (files.folder / "f.csv").write_bytes(b"PK\x03\x04...")
        with pytest.raises(ValueError, match="a spreadsheet; save it as CSV"):
            import_table(empty, v, files.folder / "f.csv")

    def test_a_packed_table_that_is_cut_off_is_told_so(self, empty, files):
        packed = gzip.compress(b"video_id,frame_index,seconds\na,0,0\n")
        (files.folder / "f.csv.gz").write_bytes(packed[:-9])
        with pytest.raises(ValueError, match="not packed whole"):
            import_table(empty, files.vectors(vectors_of(1)), files.folder / "f.csv.gz")

    def test_whole_numbers_may_be_doubles_with_gaps(self, empty, files):
        columns = plain(4, frame_index=np.arange(4.0), shot=[0.0, float("nan"), 2.0, None])
        import_table(empty, files.vectors(vectors_of(4)), files.table(columns))
        assert [(row[2], row[5]) for row in everything(empty)] == [(0, 0), (1, -1), (2, 2), (3, -1)]

    def test_names_meet_however_they_are_spelled(self, empty, files):
        composed, apart = (unicodedata.normalize(form, "đường phố Huế") for form in ("NFC", "NFD"))
        columns = plain(4, video_id=[composed, apart, f" {composed}", f"{apart}\ufeff"], tags=[[composed], [apart]] * 2)
        import_table(empty, files.vectors(vectors_of(4)), files.table(columns))
        assert [info.video_id for info in empty.videos()] == [composed]
        assert empty.tags() == {composed: 4}
        query = queries(1)[0]
        for name in (composed, apart, f" {apart}"):
            for where in (Filter(videos=(name,)), Filter(tags_all=(name,)), Filter(tags_any=(name,), videos=(name,))):
                assert len(empty.search(query, 10, where=where).hits) == 4
            assert empty.search(query, 10, where=Filter(tags_none=(name,))).hits == ()
            assert empty.video(name).n_frames == 4
        report = import_table(empty, files.vectors(vectors_of(4)), files.table({**columns, "video_id": [apart] * 4}))
        assert report.skipped == (composed,)
        assert empty.delete(apart) == 4

    def test_ids_in_csv_stay_text(self, empty, files):
        columns = plain(4, video_id=["007", "007", "12", "12"])
        import_table(empty, files.vectors(vectors_of(4)), files.table(columns, "f.csv"))
        assert [info.video_id for info in empty.videos()] == ["007", "12"]

    def test_rows_that_repeat_a_frame_are_kept(self, empty, files):
        columns = plain(6, video_id=["a"] * 6, frame_index=[0, 5, 5, 5, 9, 9])
        import_table(empty, files.vectors(vectors_of(6)), files.table(columns))
        assert empty.n_frames == 6

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("metric", ["ip", "l2"])
    def test_searching_finds_what_one_flat_index_finds(self, tmp_path, files, dtype, metric):
        rows = vectors_of(200).astype(dtype)
        with Collection.create(tmp_path / "m", dim=DIM, metric=metric, n_shards=4) as collection:
            import_table(collection, files.vectors(rows), files.table(plain(200)))
            frames = FrameBatch(rows, np.arange(200), np.arange(200.0))
            flat = Flat.of([(NewVideo("x"), frames)], metric=metric)
            for query in queries(5):
                assert_answers(collection.search(query, 10, exact=True).hits, flat, query, 10)

    def test_more_rows_than_a_batch_come_through_in_order(self, empty, files):
        n = ROWS_PER_BATCH + 1000
        columns = plain(n, video_id=[f"v{i % 7}" for i in range(n)])
        import_table(empty, files.vectors(vectors_of(n).astype(np.float16)), files.table(columns), build=False)
        assert empty.n_frames == n
        for i in (0, ROWS_PER_BATCH - 1, ROWS_PER_BATCH, n - 1):
            assert (empty.frame(i).video_id, empty.frame(i).frame_index) == (f"v{i % 7}", i * 5)

    def test_facts_about_a_video_come_in_by_name(self, empty, files):
        columns = plain(4, **{"about:author": ["Lan", "Minh", "x", "x"], "about:views": [3, 4, 5, 6]})
        columns[""] = columns["__index_level_0__"] = np.arange(4)
        report = import_table(empty, files.vectors(vectors_of(4)), files.table(columns))
        assert report.notes == ()
        assert empty.video("a").about == {"author": "Lan", "views": "3"}

    def test_columns_that_mean_nothing_are_named_and_left_out(self, empty, files):
        columns = plain(4, weather=["wet"] * 4, mood=[1, 2, 3, 4], frame_id=[9, 8, 7, 6])
        report = import_table(empty, files.vectors(vectors_of(4)), files.table(columns))
        assert len(report.notes) == 1
        assert report.notes[0].endswith("left out: weather, mood.")

    def test_progress_rises_to_the_end(self, empty, files):
        seen: list[float] = []
        import_table(
            empty,
            files.vectors(vectors_of(50)),
            files.table(plain(50)),
            progress=lambda stage, done, total: seen.append(done / total),
        )
        assert seen == sorted(seen)
        assert seen[-1] == 1.0
        assert len(seen) > 3


class TestParts:
    def split(self, files: Files, cuts: tuple[int, ...], n: int = 30) -> tuple[Path, Path]:
        """Folders with the parts of n frames of two videos that go on across the cuts."""
        rows, columns = (
            vectors_of(n),
            plain(n, video_id=["a"] * 18 + ["b"] * (n - 18), title=["A"] * 18 + ["B"] * (n - 18)),
        )
        for folder in ("vectors", "tables"):
            (files.folder / folder).mkdir()
        for i, (start, stop) in enumerate(zip((0, *cuts), (*cuts, n), strict=True)):
            files.vectors(rows[start:stop], f"vectors/img_emb_{i}.npy")
            part = {name: values[start:stop] for name, values in columns.items()}
            files.table(part, f"tables/metadata_{i}.{'csv' if i == 1 else 'parquet'}")
        return files.folder / "vectors", files.folder / "tables"

    def test_a_video_that_is_cut_across_two_parts_is_one_video(self, empty, files, tmp_path):
        vectors, tables = self.split(
            files, (5, 6, 7, 8, 9, 10, 11, 12, 13, 20)
        )  # So that part 10 must come after part 9.
        report = import_table(empty, vectors, tables)
        assert (report.added, report.n_frames, report.refused) == (("a", "b"), 30, ())
        rows = vectors_of(30)
        for i in (0, 5, 19, 29):
            assert (empty.frame(i).video_id, empty.frame(i).frame_index) == ("a" if i < 18 else "b", 5 * i)
            np.testing.assert_allclose(empty.vector(i), rows[i] / np.linalg.norm(rows[i]), atol=1e-3)
        columns = plain(30, video_id=["a"] * 18 + ["b"] * 12)
        whole = import_table(empty, files.vectors(rows), files.table(columns))
        assert whole.skipped == ("a", "b")  # It is the same content, however it was cut.

    def test_several_files_go_together_in_the_order_given(self, empty, files):
        vectors, tables = self.split(files, (18,))
        ordered = [
            [folder / f"{name}_{i}.{end}" for i, end in ((1, last), (0, first))]
            for folder, name, first, last in (
                (vectors, "img_emb", "npy", "npy"),
                (tables, "metadata", "parquet", "csv"),
            )
        ]
        import_table(empty, *ordered)
        assert [info.video_id for info in empty.videos()] == ["b", "a"]

    def test_names_pair_however_programs_count_their_parts(self, empty, files):
        rows, columns = vectors_of(30), plain(30)
        for folder in ("vectors", "frames.parquet"):
            (files.folder / folder).mkdir()
        for i in range(3):
            np.save(files.folder / f"vectors/part_{i:04}.npy", rows[10 * i : 10 * i + 10])
            part = {name: values[10 * i : 10 * i + 10] for name, values in columns.items()}
            files.table(part, f"frames.parquet/part.{i}.parquet")
        (files.folder / "frames.parquet" / "_SUCCESS").touch()
        import_table(empty, files.folder / "vectors", files.folder / "frames.parquet")
        assert [empty.frame(i).frame_index for i in range(30)] == [5 * i for i in range(30)]

    def test_a_part_that_is_a_link_out_of_its_folder_is_refused(self, empty, files, tmp_path):
        vectors, tables = self.split(files, (10,))
        (vectors / "img_emb_1.npy").unlink()
        (vectors / "img_emb_1.npy").symlink_to(files.vectors(vectors_of(20)))
        with pytest.raises(ValueError, match="a link that leads out"):
            import_table(empty, vectors, tables)

    def test_one_table_may_go_with_all_parts(self, empty, files):
        vectors, _ = self.split(files, (7, 20))
        assert import_table(empty, vectors, files.table(plain(30))).n_frames == 30

    def test_parts_that_do_not_go_together_are_refused_in_one_sentence(self, empty, files, tmp_path):
        vectors, tables = self.split(files, (10, 20))
        files.table(plain(9), "tables/metadata_2.parquet")
        (tmp_path / "none").mkdir()
        (tmp_path / "other").mkdir()
        for i in (3, 4, 5):
            files.table(plain(10), f"other/part-{i}.parquet")
        for v, f, why in (
            (vectors, tables, r"img_emb_2\.npy has 10 rows and .*metadata_2\.parquet has 9"),
            (vectors, tmp_path / "other", "cannot be told which table goes with which"),
            (vectors, files.table(plain(29)), "and 2 more has 30 rows and .* has 29"),
            (tmp_path / "none", tables, "no arrays in"),
            ([vectors / "img_emb_0.npy"] * 2, tables, "given twice"),
            ([vectors, files.vectors(np.ones((3, 5), "f4"))], tables, "rows of 5 numbers and .* of 8"),
        ):
            with pytest.raises(ValueError, match=why):
                import_table(empty, v, f)
        assert empty.n_frames == 0


class TestWhatIsInAlready:
    def test_a_second_import_stores_nothing(self, empty, files):
        v, f = files.vectors(vectors_of(50)), files.table(plain(50))
        import_table(empty, v, f)
        before = empty.generation
        report = import_table(empty, v, f)
        assert (report.added, report.skipped, report.n_frames) == ((), ("a", "b"), 0)
        assert empty.generation == before
        assert empty.n_frames == 50

    def test_what_a_second_table_says_otherwise_is_told_and_an_update_takes_it_over(self, empty, files):
        v = files.vectors(vectors_of(6))
        import_table(empty, v, files.table(plain(6, title=["A", "B"] * 3, tags=[["x:1"]] * 6)))
        later = files.table(plain(6, title=["A", "C"] * 3, tags=[["x:1"]] * 6), "later.parquet")
        report = import_table(empty, v, later)
        assert report.skipped == ("a", "b")
        assert [note[:19] for note in report.notes] == ["1 of the videos tha"]
        assert empty.update(later).changed == ("b",)
        assert import_table(empty, v, later).notes == ()
        assert empty.video("b").title == "C"

    def test_only_what_is_new_goes_in_and_other_content_is_refused(self, empty, files):
        rows = vectors_of(30)
        import_table(empty, files.vectors(rows[:20]), files.table(plain(20)))
        changed = rows.copy()
        changed[1] += 1
        columns = plain(30, video_id=["ab"[i % 2] if i < 20 else "c" for i in range(30)])
        report = import_table(empty, files.vectors(changed), files.table(columns))
        assert (report.added, report.skipped, report.n_frames) == (("c",), ("a",), 10)
        assert [name for name, _ in report.refused] == ["b"]
        assert "other content" in report.refused[0][1]
        assert empty.n_frames == 30
        np.testing.assert_allclose(empty.vector(1), rows[1] / np.linalg.norm(rows[1]), atol=1e-3)
        assert empty.frame(20).video_id == "c"
        np.testing.assert_allclose(empty.vector(20), rows[20] / np.linalg.norm(rows[20]), atol=1e-3)

    def test_a_name_that_an_earlier_version_kept_decomposed_is_known_in_any_form(self, empty, files):
        composed, apart = (unicodedata.normalize(form, "Huế") for form in ("NFC", "NFD"))
        video = NewVideo(apart)
        object.__setattr__(video, "video_id", apart)
        empty.add(video, FrameBatch(vectors_of(3), np.arange(3), np.arange(3.0)))
        assert [info.video_id for info in empty.videos()] == [apart]
        report = import_table(empty, files.vectors(vectors_of(3)), files.table(plain(3, video_id=[composed] * 3)))
        assert [name for name, _ in report.refused] == [composed]
        for name in (composed, apart):
            assert len(empty.search(queries(1)[0], 9, where=Filter(videos=(name,))).hits) == 3
        assert empty.update(files.table({"video_id": [composed], "title": ["Sông Hương"]}, "u.csv")).changed == (apart,)

    def test_a_video_is_known_again_wherever_it_stands_in_another_file(self, empty, files):
        n = ROWS_PER_BATCH + 10
        rows = vectors_of(n + 500)
        columns = plain(n, video_id=["a"] * n)
        import_table(empty, files.vectors(rows[500:]), files.table(columns), build=False)
        shifted = {name: np.concatenate([values[:500], values]) for name, values in plain(n).items()}
        shifted["video_id"] = ["new"] * 500 + ["a"] * n
        report = import_table(empty, files.vectors(rows), files.table(shifted), build=False)
        assert (report.added, report.skipped, report.refused) == (("new",), ("a",), ())

    def test_other_times_are_other_content(self, empty, files):
        v = files.vectors(vectors_of(4))
        import_table(empty, v, files.table(plain(4)))
        for change in ({"seconds": np.arange(4) * 0.3}, {"frame_index": np.arange(4)}):
            report = import_table(empty, v, files.table(plain(4, **change)))
            assert [name for name, _ in report.refused] == ["a", "b"]


def spoiled(n: int, row: int, value: float) -> np.ndarray:
    rows = vectors_of(n)
    rows[row] = value
    return rows


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        ("columns", "why"),
        [
            (plain(10, seconds=None), "no column seconds"),
            (plain(10, seconds=None, video_id=None), "no column video_id, seconds"),
            (plain(10, video_id=list(range(10))), "video_id .* is of type int64; give text"),
            (plain(10, frame_index=np.arange(10) + 0.5), "Row 0 .* frame_index is not a whole number"),
            (plain(10, frame_index=[*range(8), 1e30, 2]), "Row 8 .* frame_index is a number that is too large"),
            (plain(10, frame_index=[0.0, float("nan"), *range(8)]), "Row 1 .* frame_index is missing"),
            (plain(10, shot=[*range(7), 2**40, 1, 1]), "Row 7 .* shot is a number that is too large"),
            (plain(10, tags=["a:1"] * 6 + ["dog, beach"] * 4), "Row 6 .* tags hold a comma .* between them"),
            (plain(10, **{"Video_ID": ["a"] * 10, "video_id": None}), "'Video_ID' must be written video_id"),
            (plain(10, seconds=["1"] * 10), "seconds .* type string; give numbers"),
            (plain(10, video_id=["a"] * 4 + [None] * 6), "Row 4 .* video_id is missing"),
            (plain(10, video_id=["a"] * 4 + [""] * 6), "Row 4 .* video_id is empty"),
            (plain(10, frame_index=[*range(9), None]), "Row 9 .* frame_index is missing"),
            (plain(10, frame_index=np.arange(10) - 1), "Row 0 .* frame_index is negative"),
            (plain(10, seconds=[0.0, None, *range(8)]), "Row 1 .* seconds is missing"),
            (plain(10, seconds=[0.0, float("nan"), *range(8)]), "Row 1 .* seconds is negative or not a number"),
            (plain(10, seconds=np.arange(10) - 0.5), "Row 0 .* seconds is negative"),
            (plain(10, seconds=[0.0, 1e9, 1.1e9, *range(7)]), "Row 2 .* seconds is more than thirty years"),
            (plain(10, seconds=[1e300] * 10), "Row 0 .* seconds is more than thirty years"),
            (
                plain(10, captured_at=pa.array([datetime(2024, 1, 1, tzinfo=timezone.utc)] * 10)),  # noqa: UP017
                "time zone .* convert it to local time",
            ),
            (plain(10, captured_at=["yesterday"] * 10), "captured_at .* type string; give timestamps"),
            (plain(10, captured_at=pa.array([2**62] * 10, pa.timestamp("us"))), "Row 0 .* captured_at lies outside"),
            (plain(10, tags=[1] * 10), "tags .* type int64; give a list"),
            (plain(10, tags=[[1]] * 10), "tags .* give a list of texts"),
            (plain(10, shot=["x"] * 10), "shot .* give whole numbers"),
            (plain(10, title=[1] * 10), "title .* give text"),
            (plain(9), "has 10 rows and .* has 9"),
        ],
    )
    def test_a_table_is_refused_in_one_sentence_and_nothing_stored(self, empty, files, columns, why):
        generation = empty.generation
        with pytest.raises(ValueError, match=why) as caught:
            import_table(empty, files.vectors(vectors_of(10)), files.table(columns))
        assert "\n" not in str(caught.value)
        assert (empty.n_frames, empty.videos(), empty.generation) == (0, [], generation)

    @pytest.mark.parametrize(
        ("rows", "why"),
        [
            (np.asfortranarray(vectors_of(10)), "Fortran order"),
            (np.ones((10, DIM), np.int32), "numbers of type int32"),
            (np.ones((10, DIM), np.complex64), "numbers of type complex64"),
            (np.ones(10, np.float32), r"shape \(10,\)"),
            (np.ones((10, 2, 4), np.float32), r"shape \(10, 2, 4\); .* mean over tokens"),
            (np.ones((10, 1, DIM), np.float32), r"shape \(10, 1, 8\); .*vectors\.reshape\(10, 8\)"),
            (np.ones((10, DIM), "V2"), r"bfloat16 .*tensor\.float\(\)"),
            (vectors_of(10)[:, :5].copy(), "rows of 5 numbers; this collection stores 8"),
            (np.ones((0, DIM), np.float32), "has 0 rows and"),
            (spoiled(10, 6, np.nan), "Row 6 of .*, counted from 0, holds a value that is not a finite number"),
            (spoiled(10, 3, np.inf), "Row 3 .* not a finite"),
            (spoiled(10, 8, 0), "Row 8 .* all zeros"),
            (np.full((10, DIM), 1e300), "Row 0 .* not a finite"),
        ],
        ids=str,
    )
    def test_vectors_are_refused_in_one_sentence_and_nothing_stored(self, empty, files, rows, why):
        with pytest.raises(ValueError, match=why) as caught:
            import_table(empty, files.vectors(rows), files.table(plain(10)))
        assert "\n" not in str(caught.value)
        assert (empty.n_frames, empty.videos()) == (0, [])

    def test_a_bad_row_beyond_the_first_batch_and_behind_skipped_ones_has_its_own_number(self, empty, files):
        n = ROWS_PER_BATCH + 20
        rows, columns = vectors_of(n), plain(n)
        import_table(empty, files.vectors(rows), files.table(columns), build=False)
        rows = np.concatenate([rows, vectors_of(2)])
        rows[n + 1] = np.nan
        longer = plain(n + 2, video_id=[*columns["video_id"], "c", "c"])
        with pytest.raises(ValueError, match=f"Row {n + 1} "):
            import_table(empty, files.vectors(rows), files.table(longer), build=False)
        assert [info.video_id for info in empty.videos()] == ["a", "b"]

    @pytest.mark.parametrize(
        ("store", "value", "why"), [("fp16", 1e6, "too large for float16"), ("fp32", 1e16, "squares beyond float32")]
    )
    def test_values_too_large_are_named_where_rows_are_not_normalised(self, tmp_path, files, store, value, why):
        v, f = files.vectors(spoiled(10, 4, value)), files.table(plain(10))
        with (
            Collection.create(tmp_path / "l2", dim=DIM, metric="l2", store=store) as collection,
            pytest.raises(ValueError, match=f"Row 4 .* {why}"),
        ):
            import_table(collection, v, f)

    def test_two_files_without_rows_are_told_so(self, empty, files):
        none = {name: values[:0] for name, values in plain(4).items()}
        v = files.vectors(np.ones((0, DIM), np.float32))
        for name in ("f.parquet", "f.csv"):
            table = files.table({**none, "video_id": pa.array([], pa.string())}, name)
            with pytest.raises(ValueError, match="no rows"):
                import_table(empty, v, table)

    @pytest.mark.parametrize("name", ["f.parquet", "f.arrow", "f.csv"])
    def test_files_that_are_something_else_are_told_so(self, empty, files, tmp_path, name):
        v = files.vectors(vectors_of(4))
        (tmp_path / name).write_bytes(b"\x00PAR1 nothing\nof the, sort\n")
        with pytest.raises(ValueError, match=r"cannot be read as a table|has no column"):
            import_table(empty, v, tmp_path / name)
        (tmp_path / "text.npy").write_text("hello")
        with pytest.raises(ValueError, match=r"cannot be read as a NumPy array: it is no \.npy file"):
            import_table(empty, tmp_path / "text.npy", files.table(plain(4)))
        np.savez(tmp_path / "many.npz", a=vectors_of(4))
        with pytest.raises(ValueError, match="several arrays"):
            import_table(empty, tmp_path / "many.npz", files.table(plain(4)))

    def test_pickled_objects_are_not_loaded(self, empty, files, tmp_path):
        np.save(tmp_path / "o.npy", np.array([{"a": 1}], object), allow_pickle=True)
        with pytest.raises(ValueError, match="holds Python objects"):
            import_table(empty, tmp_path / "o.npy", files.table(plain(1)))

    def test_a_file_of_another_kind_is_called_what_it_is(self, empty, files, tmp_path):
        import torch

        torch.save(torch.ones(4, DIM), tmp_path / "torch.npy")
        torch.save(torch.ones(4, DIM), tmp_path / "old.npy", _use_new_zipfile_serialization=False)
        (tmp_path / "pickled.npy").write_bytes(pickle.dumps([1, 2]))
        (tmp_path / "empty.npy").write_bytes(b"")
        whole = files.vectors(vectors_of(4)).read_bytes()
        (tmp_path / "cut.npy").write_bytes(whole[:-9])
        pa.parquet.write_table(pa.table({"a": [1]}), tmp_path / "parquet.npy")
        for name, why in {
            "torch.npy": r"file of PyTorch \(\.pt\)",
            "old.npy": "file of an old PyTorch",
            "pickled.npy": "is a pickle",
            "empty.npy": "is empty",
            "cut.npy": f"is cut off, with {len(whole) - 9} bytes of {len(whole)}",
            "parquet.npy": "is a Parquet file",
        }.items():
            with pytest.raises(ValueError, match=why):
                import_table(empty, tmp_path / name, files.table(plain(4)))

    def test_what_is_said_of_bfloat16_works(self, files):
        path = files.vectors((vectors_of(4).view("u4") >> 16).astype("u2").view("V2"))
        made = (np.load(path).view("u2").astype("u4") << 16).view("f4")
        np.testing.assert_allclose(made, vectors_of(4), rtol=1e-2)

    def test_missing_files_and_other_endings_are_told_so(self, empty, files, tmp_path):
        v, f = files.vectors(vectors_of(4)), files.table(plain(4))
        for vectors, frames, why in (
            (tmp_path / "no.npy", f, "no file"),
            (v, tmp_path / "no.csv", "no file"),
            (v, tmp_path / "f.xlsx", "ends in .parquet"),
        ):
            with pytest.raises(ValueError, match=why):
                import_table(empty, vectors, frames)

    def test_a_column_that_comes_twice_is_named(self, files):
        names = ["video_id", "frame_index", "seconds", "seconds"]
        table = pa.table([pa.array(["a"]), pa.array([1]), pa.array([1.0]), pa.array([2.0])], names=names)
        pa.parquet.write_table(table, files.folder / "t.parquet")
        with pytest.raises(ValueError, match="column seconds more than once"):
            read_table(files.folder / "t.parquet")


class TestExport:
    @pytest.mark.parametrize("name", ["f.parquet", "f.arrow", "f.csv"])
    @pytest.mark.parametrize("store", ["fp16", "fp32"])
    def test_what_went_out_comes_in_again_and_is_found_alike(self, tmp_path, name, store):
        with fill(tmp_path / "a", VIDEOS, store=store) as first:
            first.delete("v1")
            assert first.export(tmp_path / "v.npy", tmp_path / name) == 90
            with Collection.create(tmp_path / "b", dim=DIM, n_shards=2, store=store) as second:
                report = import_table(second, tmp_path / "v.npy", tmp_path / name)
                assert (report.notes, report.n_frames) == ((), 90)
                assert everything(second) == everything(first)
                first.compact()
                assert second.tags() == first.tags()
                for query in queries(4):
                    there, here = (each.search(query, 20, exact=True).hits for each in (first, second))
                    assert [(hit.video_id, hit.frame_index) for hit in here] == [
                        (hit.video_id, hit.frame_index) for hit in there
                    ]
                    np.testing.assert_allclose([hit.score for hit in here], [hit.score for hit in there], atol=1e-3)
                dark = Filter(tags_any=("object:dog",), dayparts=("night",))
                both = [len(each.search(queries(1)[0], 100, where=dark).hits) for each in (first, second)]
                assert both[0] == both[1] > 0

    def test_rows_are_as_stored_and_in_input_order(self, tmp_path):
        with fill(tmp_path / "a", VIDEOS) as collection:
            collection.delete("v0")
            collection.export(tmp_path / "v.npy", tmp_path / "f.parquet")
            rows, table = np.load(tmp_path / "v.npy"), pa.parquet.read_table(tmp_path / "f.parquet")
            assert rows.dtype == np.float16
            np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float32), axis=1), 1, atol=2e-3)
            ids = table.column("frame_id").to_pylist()
            assert ids == list(range(30, 120))
            for i in (0, 44, 89):
                assert np.array_equal(collection.vector(ids[i]), rows[i].astype(np.float32))
                assert table.column("frame_index").to_pylist()[i] == collection.frame(ids[i]).frame_index

    def test_tags_that_hold_what_stands_between_tags_come_back_as_they_were(self, tmp_path):
        tags = (("a|b", "c"), ("x, y",), ("['z']",), ('it\'s; \\ "so"', "k:1, l:2"), ("[q]", "(r)"), ("plain",), ())
        rows = FrameBatch(vectors_of(7), np.arange(7), np.arange(7.0), tags=tags)
        with Collection.create(tmp_path / "a", dim=DIM) as first:
            first.add(NewVideo("v"), rows)
            first.export(tmp_path / "v.npy", tmp_path / "f.csv")
        with Collection.create(tmp_path / "b", dim=DIM) as second:
            import_table(second, tmp_path / "v.npy", tmp_path / "f.csv")
            assert [row[6] for row in everything(second)] == [tuple(sorted(of_frame)) for of_frame in tags]

    def test_existing_files_and_wrong_names_are_refused_and_left_alone(self, tmp_path):
        (tmp_path / "there.npy").write_text("mine")
        (tmp_path / "there.csv").write_text("mine")
        with fill(tmp_path / "a", VIDEOS[:1]) as collection:
            for vectors, frames, why in (
                ("there.npy", "f.parquet", "there already"),
                ("v.npy", "there.csv", "there already"),
                ("v.bin", "f.parquet", r"ends in \.npy"),
                ("v.npy", "f.txt", r"ends in \.parquet"),
                ("gone/v.npy", "f.parquet", "no folder"),
            ):
                with pytest.raises(ValueError, match=why):
                    collection.export(tmp_path / vectors, tmp_path / frames)
        assert {path.name for path in tmp_path.iterdir()} == {"a", "there.npy", "there.csv"}
        assert (tmp_path / "there.npy").read_text() == (tmp_path / "there.csv").read_text() == "mine"

    def test_a_damaged_row_stops_it_and_leaves_no_file(self, tmp_path):
        from engine.errors import CorruptData

        with fill(tmp_path / "a", VIDEOS) as collection:
            flip(next((tmp_path / "a").glob("segments/*/vectors.npy")))
            with pytest.raises(CorruptData):
                collection.export(tmp_path / "v.npy", tmp_path / "f.parquet")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_an_empty_collection_has_nothing_to_export(self, empty, tmp_path):
        with pytest.raises(ValueError, match="nothing to export"):
            empty.export(tmp_path / "v.npy", tmp_path / "f.parquet")
        assert not (tmp_path / "v.npy").exists()
