"""The routing model of a collection: what it finds, the recall it expects, and how it goes on as frames come and go."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from engine.collection import Collection
from engine.datasets.synthetic import World, write_synthetic
from engine.errors import CorruptData
from engine.routing.calibration import Calibration
from engine.routing.model import (
    ASKED_SHARE,
    ASKED_WEIGHT,
    MAX_BANK_FRAMES,
    RoutingModel,
    fitted_bank,
    read_routing_model,
    write_routing_model,
)
from engine.routing.query_bank import FOLDS, QueryBank
from engine.routing.regression import fit_routing_vectors
from engine.storage.snapshot import Snapshot
from engine.types import Filter
from engine.vectors.cells import Cells
from testing.worlds import DIM, Flat, assert_answers, fill, flip, folders, make_video, queries

# Harms take turns below, so that over texts and images each has its share.
FILES = [
    f"{kind}_{name}"
    for kind in ("text", "image")
    for name in (
        *("vectors", "biases", "group_vectors", "group_biases", "queries", "fold", "best"),
        *("judged", "judged_groups", "judged_answers"),
    )
]
RANKING_TEXTS = FILES[:4]
"""What a search by text reads; the rest is read when it is asked for."""
N_WORLD, WORLD_DIM = 20_000, 64
BANK = queries(60)
SMALL = [make_video(i, 60) for i in range(5)]


def router_of(collection: Collection) -> RoutingModel | None:
    with collection.reading() as snapshot:
        return snapshot.router


def cells_of(collection: Collection) -> Cells | None:
    with collection.reading() as snapshot:
        return snapshot.cells


def brute_best(collection: Collection) -> tuple[RoutingModel, np.ndarray]:
    """The router, and the best score in each cell for each of its queries over all live frames."""
    with collection.reading() as snapshot:
        router, n_cells = snapshot.router, len(snapshot.cells)
        best = np.full((n_cells, len(router.bank.vectors)), -np.inf, np.float32)
        for view in snapshot.views():
            rows = view.live_rows()
            products = view.segment.gather(rows) @ router.bank.vectors.T
            np.maximum.at(best, view.segment.columns.cell[rows], products)
    return router, best


@pytest.fixture(scope="module")
def world():
    return World(WORLD_DIM, 3)


@pytest.fixture(scope="module")
def city(tmp_path_factory, world):
    """Made-up frames as hard to search by text as real ones, with a router fitted on a bank of other texts."""
    collection = Collection.create(tmp_path_factory.mktemp("city") / "c", dim=WORLD_DIM, n_shards=8, route="routed")
    write_synthetic(collection, world, N_WORLD, build=False)
    collection.build(queries=world.text_queries(1000, seed=2))
    yield collection
    collection.close()


@pytest.fixture(scope="module")
def asked(world):
    """Texts that no bank has."""
    return world.text_queries(300, seed=1)


@pytest.fixture
def small(tmp_path):
    """A few hundred frames with a router."""
    with fill(tmp_path / "c", SMALL, built=False, n_cells=16) as collection:
        collection.build(queries=BANK)
        yield collection


def found(city: Collection, asked, k: int = 10, where: Filter | None = None, **how) -> tuple[float, list]:
    """Share of the exact answers that are found, and the traces."""
    exact = city.search_many(asked, k, exact=True, where=where)
    results = city.search_many(asked, k, where=where, **how)
    shares = [
        len({hit.frame_id for hit in one.hits} & {hit.frame_id for hit in other.hits}) / k
        for one, other in zip(results, exact, strict=True)
    ]
    return float(np.mean(shares)), [result.trace for result in results]


class TestRecall:
    @pytest.mark.parametrize("recall", [0.9, 0.95])
    def test_unseen_texts_find_about_what_was_asked_for(self, city, asked, recall):
        share, traces = found(city, asked, recall=recall)
        assert recall - 0.03 <= share <= recall + 0.04
        assert {(trace.method, trace.router, trace.expected_recall) for trace in traces} == {
            ("routed", "learned", recall)
        }
        assert np.mean([trace.vectors_scanned for trace in traces]) < 0.05 * N_WORLD

    def test_deeper_answers_find_about_what_was_asked_for(self, city, asked):
        share, _ = found(city, asked[:100], k=50, recall=0.9)
        assert 0.87 <= share <= 0.94

    def test_a_routed_collection_aims_at_95_percent_unasked(self, city, asked):
        (first, *_), (second, *_) = found(city, asked[:20])[1], found(city, asked[:20], recall=0.95)[1]
        assert first.expected_recall == 0.95
        assert first.n_probe == second.n_probe
        assert "as calibrated" in first.reason

    def test_learned_finds_clearly_more_than_spread_and_spread_more_than_centroids(self, city, asked):
        shares = {name: found(city, asked, n_probe=60, router=name)[0] for name in ("learned", "spread", "centroid")}
        assert shares["learned"] > shares["spread"] + 0.05
        assert shares["spread"] > shares["centroid"]

    def test_stored_frames_are_routed_by_what_frames_taught_and_find_about_what_was_asked_for(self, city):
        frames = list(range(0, N_WORLD, 97))
        share, traces = found(city, frames, k=11, recall=0.9)
        assert 0.86 <= share <= 0.96
        assert {(trace.router, trace.expected_recall) for trace in traces} == {("learned", 0.9)}

    def test_a_filter_keeps_the_estimate_and_about_the_recall(self, city, asked):
        videos = [info.video_id for info in city.videos()]
        half = Filter(videos=tuple(np.random.default_rng(0).permutation(videos)[: len(videos) // 2].tolist()))
        share, traces = found(city, asked, where=half, recall=0.9)
        assert {(trace.method, trace.expected_recall) for trace in traces} == {("routed", 0.9)}
        assert 0.85 <= share <= 0.97

    @pytest.mark.parametrize("aim", ["rows", "shards"])
    @pytest.mark.parametrize("max_shards", [1, 2, 4])
    def test_a_cap_on_shards_comes_with_the_recall_that_it_leaves(self, city, asked, aim, max_shards):
        share, traces = found(city, asked, recall=0.95, max_shards=max_shards, aim=aim)
        (expected,) = {trace.expected_recall for trace in traces}
        assert share == pytest.approx(expected, abs=0.03)
        assert expected <= 0.95
        assert max(trace.shards_probed for trace in traces) <= max_shards
        assert not any("cap on shards" in warning for trace in traces for warning in trace.warnings)
        assert city.preview(asked[0], recall=0.95, max_shards=max_shards, aim=aim).expected_recall == expected

    def test_an_exact_search_expects_everything(self, city, asked):
        for how in ({"exact": True}, {"recall": 1.0}):
            trace = city.search(asked[0], **how).trace
            assert (trace.method, trace.expected_recall, trace.router) == ("exact", 1.0, "")

    @pytest.mark.parametrize("how", [{"n_probe": 30}, {"n_probe": 30, "router": "learned"}])
    def test_a_fixed_number_of_cells_comes_with_no_expected_recall(self, city, asked, how):
        trace = city.search(asked[0], **how).trace
        assert (trace.n_probe, trace.router, trace.expected_recall) == (30, "learned", None)

    def test_another_router_than_the_calibrated_one_is_not_believed(self, city, asked):
        trace = city.search(asked[0], recall=0.9, router="centroid").trace
        assert (trace.method, trace.expected_recall) == ("exact", 1.0)
        assert "was not measured" in trace.reason

    @pytest.mark.parametrize(("k", "recall"), [(10, 0.999), (3000, 0.9)])
    def test_what_was_not_measured_is_answered_exactly_and_says_so(self, city, asked, k, recall):
        trace = city.search(asked[0], k, recall=recall).trace
        assert (trace.method, trace.expected_recall) == ("exact", 1.0)
        assert "so all is scanned" in trace.reason

    def test_a_batch_of_texts_and_frames_equals_single_searches(self, city, asked):
        mixed = [asked[0], 17, asked[1], 4000, asked[2]]
        together = city.search_many(mixed, 10, recall=0.9)
        for one, query in zip(together, mixed, strict=True):
            alone = city.search(query, 10, recall=0.9)
            assert [hit.frame_id for hit in one.hits] == [hit.frame_id for hit in alone.hits]
            assert (one.trace.router, one.trace.n_probe) == (alone.trace.router, alone.trace.n_probe)
        assert {result.trace.router for result in together} == {"learned"}

    def test_a_vector_may_be_said_to_be_an_image(self, city):
        def scores(query, **said):
            return [shard.score for shard in city.search(query, recall=0.9, **said).trace.shards]

        vector = city.vector(17)
        assert scores(vector, kind="image") == scores(17) != scores(vector) == scores(17, kind="text")


def test_cells_share_shards_by_their_routing_vectors_and_by_how_many_texts_ask_for_them(city):
    router = router_of(city)
    assert router is not None
    vectors = router.text.cells.vectors
    rows = np.ones(len(vectors), np.int64)
    rows[3] = 0
    profiles = router.profiles(rows)
    assert profiles.dtype == np.float32
    np.testing.assert_array_equal(profiles[:, :-1], vectors)
    scores = router.text.cells.scores(router.bank.vectors)
    scores[:, 3] = -np.inf
    asked = np.argsort(-scores, axis=1)[:, : round(ASKED_SHARE * (len(vectors) - 1))]
    n_asked = np.bincount(asked.ravel(), minlength=len(vectors))
    least, most = profiles[n_asked == n_asked.min(), -1], profiles[n_asked == n_asked.max(), -1]
    assert profiles[3, -1] == profiles[:, -1].min() == least.min()
    assert most.max() == profiles[:, -1].max() > 0 > least.min()
    assert profiles[:, -1].std() == pytest.approx(ASKED_WEIGHT * np.sqrt(vectors.var(axis=0).sum()), rel=1e-3)


def test_the_demand_of_a_text_is_one_answer_shared_out_among_cells_with_rows_the_best_scored_most(city):
    router = router_of(city)
    assert router is not None
    rows = np.ones(len(router.text.cells.vectors), np.int64)
    rows[3] = 0
    demand = router.demand(rows)
    assert demand.shape == (len(rows), len(router.bank.vectors))
    assert not demand[3].any()
    np.testing.assert_allclose(demand.sum(axis=0), 1, rtol=1e-4)
    scores = router.text.cells.scores(router.bank.vectors)
    scores[:, 3] = -np.inf
    np.testing.assert_array_equal(demand.argmax(axis=0), scores.argmax(axis=1))
    uncalibrated = replace(router, calibration=Calibration((), 1000))
    assert uncalibrated.demand(rows).shape == (len(rows), 0)


def test_few_frames_are_scanned_where_the_route_is_auto_and_the_trace_says_why(tmp_path):
    with fill(tmp_path / "c", SMALL, built=False, route="auto", n_cells=16) as collection:
        collection.build(queries=BANK)
        trace = collection.search(queries(1)[0]).trace
    assert (trace.method, trace.expected_recall) == ("exact", 1.0)
    assert "300 frames takes no longer than routing" in trace.reason


class TestWithoutABank:
    def test_texts_go_by_spread_and_no_recall_is_predicted(self, tmp_path):
        with fill(tmp_path / "c", SMALL, n_cells=16) as collection:
            trace = collection.search(queries(1)[0], 5).trace
            assert (trace.method, trace.router, trace.expected_recall) == ("routed", "spread", None)
            assert router_of(collection) is None
            assert "build --queries" in collection.stats().why_router
            exact = collection.search(queries(1)[0], 5, recall=0.9).trace
            assert (exact.method, exact.expected_recall) == ("exact", 1.0)
            with pytest.raises(ValueError, match=r"has no learned router; .*\.$"):
                collection.search(queries(1)[0], router="learned")

    def test_l2_takes_no_queries(self, tmp_path):
        with fill(tmp_path / "c", SMALL, metric="l2", n_cells=16) as collection:
            with pytest.raises(ValueError, match="for inner products only"):
                collection.build(queries=BANK)
            assert collection.search(queries(1)[0], 5).trace.router == "centroid"
            assert router_of(collection) is None

    def test_queries_that_cannot_serve_are_refused_and_nothing_is_built(self, small):
        before = small.generation
        for wrong, why in (
            (queries(40, DIM + 1), "one row of 8 numbers"),
            (queries(1)[0], "one row of 8 numbers"),
            (queries(31), "too few"),
            (np.zeros((40, DIM)), "all zeros"),
            (np.full((40, DIM), np.nan), "not a finite number"),
        ):
            with pytest.raises(ValueError, match=why):
                small.build(queries=wrong)
            assert small.generation == before


class TestWritingAndReading:
    def test_a_router_comes_back_as_it_was(self, small, tmp_path):
        router = router_of(small)
        hashes, about = write_routing_model(tmp_path / "r", router)
        back = read_routing_model(tmp_path / "r", hashes, json.loads(json.dumps(about)), cells_of(small))
        np.testing.assert_array_equal(back.text.cells.vectors, router.text.cells.vectors)
        np.testing.assert_array_equal(back.text.cells.biases, router.text.cells.biases)
        np.testing.assert_array_equal(back.text.best, router.text.best)
        np.testing.assert_array_equal(back.bank.vectors, router.bank.vectors)
        np.testing.assert_array_equal(back.bank.fold, router.bank.fold)
        assert (back.bank.n_texts, back.bank.source) == (60, "given vectors")
        assert back.calibration == router.calibration
        assert (back.next_frame, back.n_frames, back.text.groups) == (300, 300, None)
        assert set(hashes) == {f"{name}.npy" for name in FILES}

    def test_groups_come_back_as_they_were(self, city, tmp_path):
        router = router_of(city)
        hashes, about = write_routing_model(tmp_path / "r", router)
        back = read_routing_model(tmp_path / "r", hashes, about, cells_of(city))
        np.testing.assert_array_equal(back.text.groups.vectors, router.text.groups.vectors)
        np.testing.assert_array_equal(back.text.groups.biases, router.text.groups.biases)

    @pytest.mark.parametrize(("name", "harm"), list(zip(FILES, cycle([flip, Path.unlink]), strict=False)))
    def test_a_damaged_file_is_named_by_what_reads_it_and_leaves_exact_search(self, small, tmp_path, name, harm):
        shutil.copytree(small.path, tmp_path / "damaged")
        (path,) = tmp_path.glob(f"damaged/routers/*/{name}.npy")
        harm(path)
        flat = Flat.of(SMALL)
        with Collection.open(tmp_path / "damaged") as collection:
            if name in RANKING_TEXTS:
                with pytest.raises(CorruptData, match=f"{name}.npy"):
                    collection.search(queries(1)[0])
            else:
                assert collection.search(queries(1)[0]).hits == small.search(queries(1)[0]).hits
            assert_answers(collection.search(queries(1)[0], 5, exact=True).hits, flat, queries(1)[0], 5)
            (problem,) = collection.check()
            assert f"{name}.npy" in problem
            collection.build(queries=BANK)  # Fits another one, whatever has become of the old one.
            assert collection.check() == []
            assert collection.search(queries(1)[0]).trace.router == "learned"


class TestGoingOn:
    def test_after_a_build_the_best_are_those_of_brute_force(self, small):
        router, best = brute_best(small)
        np.testing.assert_allclose(router.text.best, best, atol=2e-3)
        again = fit_routing_vectors(router.bank.vectors, best, self.cells(small).centroids)
        np.testing.assert_allclose(router.text.cells.vectors, again.vectors, atol=2e-3)

    def test_frames_that_come_are_taken_in_and_the_files_before_are_swept(self, small):
        before = router_of(small).text.best
        small.add(*make_video(20, 40))
        router, best = brute_best(small)
        assert (router.n_frames, router.next_frame) == (340, 340)
        assert (router.text.best > before).any()
        np.testing.assert_allclose(router.text.best, best, atol=2e-3)
        again = fit_routing_vectors(router.bank.vectors, best, self.cells(small).centroids)
        np.testing.assert_allclose(router.text.cells.vectors, again.vectors, atol=5e-3)
        np.testing.assert_allclose(router.text.cells.biases, again.biases, atol=5e-3)
        assert len(folders(small, "routers")) == 1
        assert small.check() == []

    def test_a_few_frames_wait_until_they_are_more(self, small):
        before = small.generation
        small.add(*make_video(20, 4))
        assert router_of(small).n_frames == 300
        assert small.generation == before + 1
        small.add(*make_video(21, 4))
        router, best = brute_best(small)
        assert router.n_frames == 308
        np.testing.assert_allclose(router.text.best, best, atol=2e-3)

    def test_frames_that_replace_deleted_ones_are_taken_in_too(self, small):
        small.delete("v0")
        small.add(*make_video(20, 60))
        router, best = brute_best(small)
        assert (router.n_frames, router.next_frame) == (300, 360)
        # What only deleted frames had reached stays until a build.
        assert (router.text.best.astype(np.float32) >= best - 2e-3).all()
        small.build()
        np.testing.assert_allclose(*(self.told(small)), atol=2e-3)

    def test_two_levels_take_frames_in_as_well(self, tmp_path):
        with fill(tmp_path / "c", SMALL, built=False, n_cells=16, placement="hierarchical") as collection:
            collection.build(queries=BANK)
            collection.add(*make_video(20, 40))
            router, best = brute_best(collection)
            cells = self.cells(collection)
            assert cells.two_level
            np.testing.assert_allclose(router.text.best, best, atol=2e-3)
            starts = np.searchsorted(cells.group_of, np.arange(len(cells.group_centroids)))
            again = fit_routing_vectors(router.bank.vectors, np.maximum.reduceat(best, starts), cells.group_centroids)
            np.testing.assert_allclose(router.text.groups.vectors, again.vectors, atol=5e-3)

    def test_growth_makes_the_calibration_stale_and_a_build_renews_it(self, small):
        small.add(*make_video(20, 50))
        assert not any("calibrated on" in note for note in small.stats().notes)
        small.add(*make_video(21, 50))
        assert any("calibrated on 300 frames and there are 400 now" in note for note in small.stats().notes)
        small.build()
        assert not any("calibrated on" in note for note in small.stats().notes)
        assert router_of(small).calibration.n_frames == 400

    def test_a_search_by_a_stale_calibration_warns(self, city, asked, monkeypatch):
        real = Snapshot.router.func

        def older(snapshot):
            router = real(snapshot)
            return replace(router, calibration=replace(router.calibration, n_frames=1000))

        monkeypatch.setattr(Snapshot, "router", property(older))
        trace = city.search(asked[0], recall=0.9).trace
        assert any("calibrated on 1,000 of 20,000 frames" in warning for warning in trace.warnings)

    def test_a_build_that_finds_no_bank_drops_the_router(self, small, monkeypatch):
        monkeypatch.setattr(Collection, "_bank", lambda self, progress: None)
        small.build()
        assert router_of(small) is None
        assert folders(small, "routers") == set()
        assert small.search(queries(1)[0]).trace.router == "spread"

    def test_a_build_without_queries_keeps_those_that_were_given_before(self, small):
        before = router_of(small).bank
        with Collection.open(small.path) as again:
            again.build(n_cells=8)
            after = router_of(again).bank
        assert after.source == "given vectors"
        np.testing.assert_array_equal(np.sort(after.vectors, axis=0), np.sort(before.vectors, axis=0))

    def test_other_queries_replace_those_that_were_given_before(self, small):
        small.build(queries=-BANK)
        np.testing.assert_allclose(
            np.sort(router_of(small).bank.vectors[:60], axis=0),
            np.sort(-BANK / np.linalg.norm(BANK, axis=1, keepdims=True), axis=0),
            atol=1e-6,
        )

    def test_resharding_keeps_the_router(self, small):
        before, files = router_of(small), folders(small, "routers")
        small.reshard(n_shards=2, placement="round_robin")
        assert folders(small, "routers") == files
        assert router_of(small).calibration == before.calibration
        assert small.search(queries(1)[0], n_probe=3).trace.router == "learned"
        assert small.check() == []

    def test_deleting_merging_and_compacting_keep_the_router(self, small):
        files = folders(small, "routers")
        small.delete("v1")
        small.compact()
        with small.writing() as writer:
            writer.maintenance.merge(everything=True)
        assert folders(small, "routers") == files
        assert router_of(small).n_frames == 300
        assert small.check() == []

    @staticmethod
    def cells(collection):
        with collection.reading() as snapshot:
            return snapshot.cells

    @staticmethod
    def told(collection):
        router, best = brute_best(collection)
        return router.text.best.astype(np.float32), best


class Words:
    """An encoder that counts what it is asked to embed."""

    name, dim = "words", DIM

    def __init__(self):
        self.asked = 0

    def encode_text(self, texts):
        self.asked += len(texts)
        rows = np.stack([np.random.default_rng(list(text.encode())).normal(size=DIM) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def encode_images(self, images):
        raise NotImplementedError


class TestPrompts:
    @pytest.fixture
    def encoder(self, monkeypatch):
        encoder = Words()
        monkeypatch.setattr("engine.search.query_vectors.load_encoder", lambda name: encoder)
        return encoder

    @pytest.fixture
    def prompted(self, tmp_path, encoder):
        """A collection whose router was fitted on the shipped prompts."""
        with fill(tmp_path / "c", SMALL, n_cells=16, encoder="words") as collection:
            yield collection

    def test_they_are_embedded_once_for_all_builds(self, prompted, encoder):
        first = encoder.asked
        assert first > 1000
        assert "shipped prompts" in prompted.stats().why_router
        prompted.build(n_cells=8)
        assert encoder.asked == first
        assert "shipped prompts" in prompted.stats().why_router

    def test_they_are_embedded_again_where_the_files_are_damaged(self, prompted, encoder):
        first = encoder.asked
        (path,) = prompted.path.glob("routers/*/text_queries.npy")
        flip(path)
        with Collection.open(prompted.path) as again:
            again.build()
            assert again.check() == []
        assert encoder.asked == 2 * first

    def test_queries_that_were_given_go_before_them_from_then_on(self, prompted, encoder):
        first = encoder.asked
        prompted.build(queries=BANK)
        prompted.build()
        assert "given vectors" in prompted.stats().why_router
        assert encoder.asked == first

    def test_l2_has_no_use_for_them(self, tmp_path, encoder):
        with fill(tmp_path / "l2", SMALL, n_cells=16, encoder="words", metric="l2") as collection:
            assert router_of(collection) is None
        assert encoder.asked == 0


def test_damaged_queries_that_were_given_must_be_given_again(small):
    (path,) = small.path.glob("routers/*/text_queries.npy")
    flip(path)
    with Collection.open(small.path) as again:
        with pytest.raises(CorruptData, match=r"text_queries\.npy"):
            again.build()
        again.build(queries=BANK)
        assert again.check() == []


@pytest.mark.parametrize(("room", "n_texts"), [(90, 90), (250, 200)])
def test_a_bank_is_cut_to_what_the_best_scores_leave_room_for_pairs_first(monkeypatch, room, n_texts):
    monkeypatch.setattr("engine.routing.model.MAX_BEST_NBYTES", 2 * 100 * (room + MAX_BANK_FRAMES))
    bank = QueryBank.of(queries(200), "test")
    assert fitted_bank(bank, 1) is bank
    cut = fitted_bank(bank, 100)
    assert (len(cut.vectors), cut.n_texts, cut.source) == (room, n_texts, "test")
    assert np.array_equal(cut.vectors[:n_texts], bank.vectors[:n_texts])
    pairs = [np.flatnonzero((bank.vectors == each).all(axis=1))[0] for each in cut.vectors[n_texts:]]
    assert len(set(pairs)) == room - n_texts
    assert min(pairs, default=200) >= 200
    assert np.array_equal(cut.fold[n_texts:], bank.fold[pairs])
    assert set(cut.fold.tolist()) == set(range(FOLDS))


@pytest.mark.parametrize("with_router", [True, False])
def test_the_progress_of_a_build_never_falls(tmp_path, with_router):
    told: list[tuple[str, float]] = []
    with fill(tmp_path / "c", SMALL, built=False, n_cells=16) as collection:
        if with_router:
            collection.use_queries(BANK)
        collection.build(progress=lambda stage, done, total: told.append((stage, done / total)))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < fractions[-1] == 1
    assert ("fitting the router" in dict(told)) == with_router
