"""Inverted lists: batches, masks, mapped files, and no changed byte in an answer."""

from __future__ import annotations

import errno
import gc
import io
import threading
import zlib
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CorruptData, StorageFull
from engine.system.system_errors import storage_errors
from engine.vectors import masks
from engine.vectors.clustering import kmeans, nearest
from engine.vectors.codecs import CODECS, check_values, train_codec
from engine.vectors.faiss_common import one_thread
from engine.vectors.flat import scores_of
from engine.vectors.list_format import ListsForm, occupied_cells
from engine.vectors.lists import PER_LIST, Lists, ListsWriter, plain_lists, read_lists
from testing.worlds import Video, assert_holds, assert_ranking, fill, flip, folders, listed, make_video

N, DIM, CELLS = 300, 16, 7
EVERY = np.arange(CELLS)
METRICS = ["ip", "l2"]
VARIANTS = [
    (codec, metric, ("loaded", "mapped")[(i + j) % 2])
    for i, codec in enumerate(CODECS)
    for j, metric in enumerate(METRICS)
]
"""Every codec with both metrics, and each of them both loaded and mapped."""
TOO_LARGE = r"^A value is too large for the codec fp16; [^.]*\.$"


@pytest.fixture(scope="module")
def rows():
    x = np.random.default_rng(1).normal(size=(N, DIM)).astype(np.float32)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def cell(rows):
    # Numbers with gaps: a segment holds only some of a collection's cells.
    return (nearest(rows, kmeans(rows, CELLS)) * 3 + 5).astype(np.int32)


@pytest.fixture(scope="module")
def asked():
    return np.random.default_rng(2).normal(size=(5, DIM)).astype(np.float32)


@dataclass
class Written:
    """A written inverted file, and what its codes stand for."""

    path: Path
    sums: np.ndarray
    decoded: np.ndarray
    header: int
    form: ListsForm

    def loaded(self) -> Lists:
        return read_lists(self.path, self.form)

    def mapped(self) -> Lists:
        return read_lists(self.path, self.form, checksums=self.sums)


def write(folder: Path, rows, cell, codec: str, metric: str = "ip", trained=None) -> Written:
    folder.mkdir(exist_ok=True)
    trained = train_codec(codec, rows) if trained is None else trained
    writer = ListsWriter(DIM, occupied_cells(cell)[0], codec, trained, metric)
    for start in range(0, len(rows), 70):
        writer.add(rows[start : start + 70], cell[start : start + 70])
    sums = writer.write(folder / "codes.faiss")
    decoded = rows
    if codec != "fp32":
        quantizer = faiss.ScalarQuantizer(DIM, CODECS[codec])
        faiss.copy_array_to_vector(trained, quantizer.trained)
        decoded = quantizer.decode(quantizer.compute_codes(np.ascontiguousarray(rows)))
    return Written(
        folder / "codes.faiss",
        sums,
        decoded,
        writer.header_nbytes(folder / "codes.faiss"),
        ListsForm(DIM, metric, codec, cell, trained),
    )


@pytest.fixture(scope="module")
def every_file(rows, cell, tmp_path_factory):
    """One written file per codec and metric, which is only read."""
    folder = tmp_path_factory.mktemp("lists")
    return {
        (codec, metric): write(folder / f"{codec}-{metric}", rows, cell, codec, metric)
        for codec in CODECS
        for metric in METRICS
    }


@pytest.fixture(params=VARIANTS, ids="-".join)
def variant(request):
    return request.param


@pytest.fixture
def metric(variant):
    return variant[1]


@pytest.fixture
def written(every_file, variant):
    return every_file[variant[:2]]


@pytest.fixture
def lists(written, variant):
    return getattr(written, variant[2])()


def probes(m: int, width: int = CELLS, n_lists: int = CELLS) -> np.ndarray:
    """(m, width) distinct lists in a random order, each row padded with -1 from another place on; one asks for none."""
    rng = np.random.default_rng(m)
    found = np.full((m, width), -1, np.int64)
    for i in range(m):
        n = 0 if i == 1 else int(rng.integers(1, width + 1))
        found[i, :n] = rng.permutation(n_lists)[:n]
    return found


def scored(written: Written, query, metric):
    """What the codes must score: the numbers that they stand for, compared with plain NumPy."""
    return scores_of(query, written.decoded, metric)


def where_lists_lie(path: Path, header: int) -> list[tuple[int, int, int]]:
    """Start of the codes, start of the ids and end of each list in the file."""
    index = faiss.read_index(str(path))
    places, at = [], header
    for i in range(index.nlist):
        size = index.invlists.list_size(i)
        places.append((at, at + size * index.code_size, at + size * (index.code_size + 8)))
        at = places[-1][2]
    return places


class TestEveryCodecAndMetric:
    def test_codes_are_near_what_they_stand_for(self, written, rows, asked, metric):
        error = np.abs(scored(written, asked[0], metric) - scores_of(asked[0], rows, metric))
        assert error.max() <= {"fp32": 0, "fp16": 2e-3, "sq8": 0.05, "sq4": 0.7}[written.form.codec]
        assert written.loaded().exact == (written.form.codec == "fp32")

    def test_a_batch_answers_like_each_query_alone_and_like_a_plain_ranking(self, lists, written, cell, asked, metric):
        wanted = probes(len(asked))
        occurring = occupied_cells(cell)[0]
        for k in (1, 10, N):
            together = lists.search(asked, wanted, k, None)
            for i, query in enumerate(asked):
                allowed = np.isin(cell, occurring[wanted[i][wanted[i] >= 0]])
                assert_ranking(together.rows[i], together.scores[i], scored(written, query, metric), allowed, k)
                alone = lists.search(query[None], wanted[i : i + 1], k, None)
                width = alone.rows.shape[1]
                np.testing.assert_array_equal(together.rows[i, :width], alone.rows[0])
                np.testing.assert_allclose(together.scores[i, :width], alone.scores[0], atol=1e-6)
                assert together.scanned[i] == alone.scanned[0] == allowed.sum()

    def test_a_mask_of_any_density_leaves_the_best_rows_that_pass(self, lists, written, cell, asked, metric):
        wanted = probes(len(asked))
        occurring = occupied_cells(cell)[0]
        for share, k in product((0.0, 1 / N, 0.05, 0.19, 0.21, 0.5, 1.0), (1, 10, 200)):
            mask = np.zeros(N, np.bool_)
            mask[np.random.default_rng(3).permutation(N)[: round(share * N)]] = True
            hits = lists.search(asked, wanted, k, mask)
            for i, query in enumerate(asked):
                inside = np.isin(cell, occurring[wanted[i][wanted[i] >= 0]])
                assert_ranking(hits.rows[i], hits.scores[i], scored(written, query, metric), inside & mask, k)
                assert hits.scanned[i] == inside.sum()

    def test_a_mask_that_leaves_out_all_the_best_is_answered_all_the_same(self, lists, written, asked, metric):
        # The worst rows pass for the first query and the best for its opposite, in one batch.
        pair = np.stack([asked[0], -asked[0]])
        for share in (0.21, 0.4, 0.6):
            mask = np.zeros(N, np.bool_)
            mask[np.argsort(scored(written, pair[0], metric))[: round(share * N)]] = True
            hits = lists.search(pair, np.tile(EVERY, (2, 1)), 3, mask)
            # More rows are ahead of the first that passes than a first look takes in.
            assert (~mask).sum() > (3 + 4 * 3**0.5 + 8) / share
            for i, query in enumerate(pair):
                assert_ranking(hits.rows[i], hits.scores[i], scored(written, query, metric), mask, 3)

    def test_both_ways_with_a_mask_answer_the_same(self, lists, written, asked, metric, monkeypatch):
        mask = np.random.default_rng(8).random(N) < 0.3
        wanted = np.tile(EVERY, (len(asked), 1))
        for dense in (0.0, 2.0):  # Rows are dropped afterwards, or tested each.
            monkeypatch.setattr(masks, "_DENSE", dense)
            hits = lists.search(asked, wanted, 20, mask)
            for i, query in enumerate(asked):
                assert_ranking(hits.rows[i], hits.scores[i], scored(written, query, metric), mask, 20)

    def test_no_list_at_all_finds_nothing(self, lists, asked):
        found = lists.search(asked, np.full((len(asked), 3), -1), 5, None)
        assert found.rows.shape == found.scores.shape == (len(asked), 0)
        assert found.scanned.tolist() == [0] * len(asked)

    def test_the_quantizer_is_stored_empty_and_lists_cover_only_cells_that_occur(self, written, cell):
        index = faiss.read_index(str(written.path))
        assert index.quantizer.ntotal == 0
        assert index.nlist == len(np.unique(cell)) == CELLS
        assert not getattr(index, "by_residual", False) or written.form.codec == "fp32"
        assert index.ntotal == N

    def test_list_checksums_are_those_of_the_stored_ids_and_codes(self, written):
        content = written.path.read_bytes()
        for i, (codes, ids, end) in enumerate(where_lists_lie(written.path, written.header)):
            assert zlib.crc32(content[codes:ids], zlib.crc32(content[ids:end])) == written.sums[i]
        assert end == len(content)

    def test_a_k_beyond_all_rows_costs_no_memory_and_returns_them_all(self, lists, cell, asked):
        found = lists.search(asked[:1], np.arange(3)[None], 10**12, None)
        assert found.rows.shape[1] == int(np.isin(cell, np.unique(cell)[:3]).sum())
        assert (found.rows >= 0).all()


@pytest.mark.parametrize("codec", CODECS)
class TestMapped:
    @pytest.fixture
    def fresh(self, tmp_path, rows, cell, codec):
        return write(tmp_path / "c", rows, cell, codec)

    def test_a_flipped_byte_is_refused_when_its_list_is_read_and_not_before(self, fresh, asked):
        codes, ids, _ = where_lists_lie(fresh.path, fresh.header)[4]
        for at in (codes + 5, ids + 1):
            flip(fresh.path, at)
            lists = fresh.mapped()
            sound = np.tile(np.array([[0, 1, 2, 3, 5, 6, -1]]), (len(asked), 1))
            before = lists.search(asked, sound, 10, None)
            assert (before.rows >= 0).all()
            touched = sound.copy()
            touched[3, 2] = 4
            for _ in range(2):  # A list that was refused is refused again.
                with pytest.raises(CorruptData, match="checksum"):
                    lists.search(asked, touched, 10, None)
            np.testing.assert_array_equal(lists.search(asked, sound, 10, None).rows, before.rows)
            flip(fresh.path, at)
            assert (fresh.mapped().search(asked, touched, 10, None).rows >= 0).all()

    def test_every_byte_behind_the_header_belongs_to_a_checked_list(self, fresh, asked):
        content = fresh.path.read_bytes()
        for at in np.linspace(fresh.header, len(content) - 1, 40).astype(int).tolist():
            flip(fresh.path, at)
            with pytest.raises(CorruptData):
                fresh.mapped().search(asked[:1], EVERY[None], 5, None)
            fresh.path.write_bytes(content)

    def test_a_mapped_file_takes_next_to_no_memory(self, fresh):
        assert fresh.loaded().nbytes == fresh.path.stat().st_size + PER_LIST * CELLS
        assert fresh.mapped().nbytes == fresh.header + PER_LIST * CELLS

    def test_lists_go_with_what_they_held_and_without_a_word(self, fresh, asked, capfd):
        def maps() -> int:
            return Path("/proc/self/maps").read_text().count(str(fresh.path))

        for open_ in (fresh.loaded, fresh.mapped):
            first = open_().search(asked, np.tile(EVERY, (5, 1)), 9, None)
            kept = open_()
            for _ in range(5):
                open_()
            gc.collect()
            assert maps() == (open_ == fresh.mapped)
            np.testing.assert_array_equal(kept.search(asked, np.tile(EVERY, (5, 1)), 9, None).rows, first.rows)
            del kept
        gc.collect()
        assert maps() == 0
        assert capfd.readouterr() == ("", "")


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 60),
    n_cells=st.integers(1, 5),
    m=st.integers(1, 4),
    k=st.integers(1, 70),
    share=st.none() | st.floats(0, 1),
    metric=st.sampled_from(METRICS),
)
def test_plain_lists_probed_whole_are_a_flat_scan(n, n_cells, m, k, share, metric):
    rng = np.random.default_rng(n * 7 + n_cells)
    x, asked = rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=(m, 4)).astype(np.float32)
    cell = rng.integers(0, n_cells, n).astype(np.int32)
    mask = None if share is None else rng.random(n) < share
    lists = plain_lists(x, cell, metric)
    assert lists.exact
    found = lists.search(asked, np.tile(np.arange(len(np.unique(cell))), (m, 1)), k, mask)
    for i, query in enumerate(asked):
        allowed = np.ones(n, np.bool_) if mask is None else mask
        assert_ranking(found.rows[i], found.scores[i], scores_of(query, x, metric), allowed, k)
    assert found.scanned.tolist() == [n] * m


def test_a_list_is_the_same_whatever_other_lists_lie_beside_it(tmp_path, rows, cell):
    trained = train_codec("sq8", rows)
    mine = np.flatnonzero(cell == np.unique(cell)[2])
    whole = write(tmp_path / "a", rows, cell, "sq8", trained=trained).loaded()
    alone = write(tmp_path / "b", rows[mine], cell[mine], "sq8", trained=trained).loaded()
    query = rows[mine[:1]]
    one = whole.search(query, np.array([[2]]), 5, None)
    other = alone.search(query, np.array([[0]]), 5, None)
    np.testing.assert_array_equal(one.rows, mine[other.rows])
    np.testing.assert_array_equal(one.scores, other.scores)


def large_video(number: int) -> Video:
    """A video whose values are beyond float16."""
    new, frames = make_video(number)
    return new, replace(frames, vectors=frames.vectors * np.float32(1e5))


@pytest.mark.parametrize("sign", [1, -1])
def test_codes_of_half_precision_refuse_what_they_cannot_hold(sign):
    check_values(np.array([[sign * 65504.0, 0]], np.float32), "fp16")
    beyond = np.array([[0, 0], [0, sign * 65536.0]], np.float32)
    for other in ("sq8", "sq4", "fp32"):
        check_values(beyond, other)
    with pytest.raises(ValueError, match=TOO_LARGE):
        check_values(beyond, "fp16")


@pytest.mark.parametrize("coded_from", [1, 10_000], ids=["coded", "not yet coded"])
def test_a_build_with_codes_that_cannot_hold_the_values_leaves_the_collection_as_it_was(tmp_path, coded_from, limit):
    limit(coded_from=coded_from)
    new, large = large_video(0)
    asked = large.vectors[3]
    with fill(tmp_path / "c", [(new, large)], metric="l2", store="fp32") as collection:
        generation, kept = collection.generation, folders(collection)
        before = [collection.search(asked, 10, n_probe=n).hits for n in (2, 10**6)]
        with pytest.raises(ValueError, match=TOO_LARGE):
            collection.build(codec="fp16")
        assert (collection.generation, collection.settings.codec) == (generation, "sq8")
        assert [collection.search(asked, 10, n_probe=n).hits for n in (2, 10**6)] == before
        assert collection.check() == []
        assert kept <= folders(collection)
        with collection.writing():
            pass
        assert folders(collection) == kept == listed(collection)
        collection.build(codec="fp32")
        assert collection.search(asked, 10, n_probe=10**6).hits[0].frame_id == 3


def test_what_codes_could_not_hold_later_is_refused_when_it_is_added(tmp_path):
    with fill(tmp_path / "c", [make_video(0)], metric="l2", store="fp32", codec="fp16") as collection:
        generation = collection.generation
        with pytest.raises(ValueError, match=TOO_LARGE):
            collection.add(*large_video(1))
        assert collection.generation == generation
        assert_holds(collection, [make_video(0)], metric="l2", store="fp32")


def test_threads_with_other_widths_do_not_disturb_each_other(every_file, asked):
    lists = every_file["sq8", "ip"].mapped()
    widths = [np.arange(n)[None] for n in (1, 3, 6)]
    alone = [every_file["sq8", "ip"].loaded().search(asked[:1], width, 20, None).rows.tolist() for width in widths]
    wrong: list[int] = []

    def ask(i: int) -> None:
        with one_thread():
            for _ in range(200):
                if lists.search(asked[:1], widths[i], 20, None).rows.tolist() != alone[i]:
                    wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i % 3,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class TestFaults:
    @pytest.mark.parametrize("mapped", [False, True])
    def test_a_file_that_faiss_cannot_read_is_corrupt(self, tmp_path, mapped):
        (tmp_path / "codes.faiss").write_bytes(b"IwSq" + b"\0" * 40)
        form = ListsForm(DIM, "ip", "sq8", np.zeros(1, np.int32))
        with pytest.raises(CorruptData, match=r"codes\.faiss"):
            read_lists(tmp_path / "codes.faiss", form, checksums=np.zeros(1, np.uint32) if mapped else None)

    def test_a_disk_that_fills_up_at_the_last_buffer_is_noticed(self, tmp_path, rows, cell, monkeypatch):
        (tmp_path / "codes.faiss").symlink_to("/dev/full")
        monkeypatch.setattr("engine.vectors.faiss_common.synced", lambda path: path.open("wb"))
        with pytest.raises(StorageFull), storage_errors("the build"):
            write(tmp_path, rows, cell, "sq8")

    def test_a_piece_of_an_index_that_was_not_written_is_never_passed_over(self, tmp_path, rows, cell, monkeypatch):
        class FailsOnce(io.BytesIO):
            def write(self, chunk) -> int:
                if not self.failed and self.tell():
                    FailsOnce.failed = True
                    raise OSError(errno.ENOSPC, "No space left on device")
                return super().write(chunk)

            failed = False

        monkeypatch.setattr("engine.vectors.faiss_common.synced", lambda path: FailsOnce())
        with pytest.raises(OSError, match="No space"):
            write(tmp_path, rows, cell, "sq8")
