"""What each command does, from its parsed arguments to its exit status."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.cli import trusting
from engine.cli.output import Line, print_json, print_result, say, search_document
from engine.collection import Collection
from engine.datasets import World, sample_queries, write_synthetic
from engine.importers import (
    ImportReport,
    check_rows,
    from_aic,
    from_table,
    from_videos,
    load_npy,
    open_or_create,
)
from engine.lab.compare import Benchmark, ComparisonRequest, format_table
from engine.lab.tuning import N_QUERIES, LayoutSetting, prepare_tuner, with_cells_tried
from engine.reports import format_account, format_plan, plan_shards
from engine.searcher import How, Query
from engine.storage import Residency
from engine.system import TrustKind, bounds, parse_bytes, readable_bytes
from engine.text import find_unknown_words
from engine.types import Filter


def run_ingest(options: argparse.Namespace) -> int:
    """Store frames of videos."""
    with Line() as line:
        report = from_videos(
            options.into,
            options.videos,
            _layout_of(options) | _given(encoder=options.encoder),
            every=options.every,
            shots=options.shots,
            build=not options.no_build,
            progress=line.show,
        )
    return _report(options, report, notes=False)


def run_import(options: argparse.Namespace) -> int:
    """Store vectors with the table of their frames."""
    asked = _layout_of(options) | _import_settings(options)
    with Line() as line:
        report = from_table(
            options.into,
            options.vectors,
            options.frames,
            asked,
            queries=_fit_on(options),
            build=not options.no_build,
            progress=line.show,
        )
    return _report(options, report)


def run_import_aic(options: argparse.Namespace) -> int:
    """Store an archive in the AI Challenge layout."""
    with Line() as line:
        report = from_aic(
            options.into,
            options.folder,
            _layout_of(options) | _import_settings(options),
            features=options.features,
            queries=_fit_on(options),
            build=not options.no_build,
            progress=line.show,
        )
    return _report(options, report)


def run_synthetic(options: argparse.Namespace) -> int:
    """Store made-up videos, and write queries for them."""
    world = World(options.dim, options.seed)
    if options.queries_to is not None:
        options.queries_to.mkdir(parents=True, exist_ok=True)
    with open_or_create(options.into, _layout_of(options), lambda: world.dim) as collection, Line() as line:
        report = write_synthetic(collection, world, options.frames, build=not options.no_build, progress=line.show)
    if options.queries_to is not None:
        np.save(options.queries_to / "text.npy", world.text_queries(1000, seed=1))
        np.save(options.queries_to / "image.npy", world.image_queries(1000, options.frames, seed=1))
        np.save(options.queries_to / "bank.npy", world.text_queries(4000, seed=2))
    return _report(options, report)


def _report(options: argparse.Namespace, report: ImportReport, *, notes: bool = True) -> int:
    """Say what an import did; `notes` for those that pass something over."""
    if options.json:
        print_json({name: value for name, value in asdict(report).items() if notes or name != "notes"})
    else:
        for name, reason in report.refused:
            say(f"refused {name}: {reason}", error=True)
        say(*report.notes, error=True)
        say(
            f"Stored {report.n_frames:,} frames of {len(report.added)} videos in {report.seconds:.1f} s; "
            f"{len(report.skipped)} were in already, {len(report.refused)} were refused."
        )
    return 1 if report.refused else 0


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _layout_of(options: argparse.Namespace) -> dict[str, Any]:
    """The layout settings that were given."""
    return _given(
        n_shards=options.shards,
        placement=options.placement,
        codec=getattr(options, "codec", None),
        n_cells=getattr(options, "cells", None),
        options=dict(options.option) if options.option else None,
    )


def _import_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What else is said of a collection when it is made by an import."""
    return _given(metric=options.metric, encoder=options.encoder, store=options.store)


def run_build(options: argparse.Namespace) -> int:
    """Train cells and place every frame anew."""
    with Collection.open(options.collection) as collection, Line() as line:
        collection.build(**_layout_of(options), queries=_fit_on(options), progress=line.show)
        return _built(options, collection, "Built")


def _fit_on(options: argparse.Namespace) -> NDArray[np.floating] | None:
    """The queries (m, dim) to fit the router on, if any were given."""
    return None if options.queries is None else np.atleast_2d(_queries(options.queries))


def run_reshard(options: argparse.Namespace) -> int:
    """Place every frame anew in the cells there are."""
    layout = _layout_of(options)
    if not layout:
        raise ValueError("Say what to change: --shards, --placement or --option.")
    with Collection.open(options.collection) as collection, Line() as line:
        collection.reshard(**layout, progress=line.show)
        return _built(options, collection, "Placed")


def _built(options: argparse.Namespace, collection: Collection, what: str) -> int:
    stats = collection.stats()
    if options.json:
        names = ("n_frames", "n_cells", "placement")
        print_json({**{name: getattr(stats, name) for name in names}, "n_shards": len(stats.shards)})
    else:
        say(
            f"{what} {stats.n_frames:,} frames into {stats.n_cells:,} cells and {len(stats.shards)} {stats.placement} shards."
        )
    return 0


def run_search(options: argparse.Namespace) -> int:
    """Find frames by text, by a vector or several, or by a stored frame."""
    if [options.text, options.vector, options.frame].count(None) != 2:
        raise ValueError("Give either a text or --vector or --frame, and not two of them.")
    if options.workers < 1:
        raise ValueError(f"{options.workers} workers cannot search; give 1 or more.")
    queries: list[Query] = [options.text if options.text is not None else options.frame]
    many = False
    if options.vector is not None:
        read = _queries(options.vector)
        many = read.ndim == 2
        queries = list(read) if many else [read]
    where = Filter(
        videos=tuple(options.video),
        seconds=(options.start, options.stop),
        captured=(options.after, options.before),
        dayparts=tuple(options.daypart),
        hours=options.hours,
        tags_any=tuple(options.tag_any),
        tags_all=tuple(options.tag_all),
        tags_none=tuple(options.tag_none),
    )
    residency: Residency = "mapped" if options.mapped else "loaded"
    with Collection.open(
        options.collection, workers=options.workers, residency=residency, remember=options.remember
    ) as collection:
        if options.text is not None:
            strange = find_unknown_words(
                collection.encoder, options.text
            ).sentence()  # Loads it before the clock starts.
            if strange:
                say(strange, error=True)
        if many and read.shape[1] == collection.settings.dim:
            check_rows(read, collection.settings.metric, "fp32", str(options.vector))
        how: How = {
            "exact": options.exact,
            "recall": options.recall,
            "n_probe": options.n_probe,
            "max_shards": options.max_shards,
            "router": options.router,
            "kind": options.kind,
            "per_shot": options.per_shot,
            "where": where,
            "allow_partial": options.allow_partial,
            "prefer": Filter(tags_all=tuple(options.prefer_tag)),
            "also": tuple(options.also),
        }
        results = collection.search_many(queries, options.k, **how)
        missed = [
            collection.missed(query, result, **how) if options.missed else None
            for query, result in zip(queries, results, strict=True)
        ]
    if options.json:
        documents = [search_document(*each) for each in zip(results, missed, strict=True)]
        print_json(documents if many else documents[0])
    else:
        for i, each in enumerate(zip(results, missed, strict=True)):
            if many:
                say(f"Query {i}")
            print_result(*each)
    return 1 if any(result.trace.missing for result in results) else 0


def _queries(path: Path) -> NDArray[np.floating]:
    """One query vector (dim,) or several (m, dim) from a .npy file."""
    if not path.is_file():
        why = "it is not a file" if path.exists() else "there is no such file"
        raise ValueError(f"{path} cannot be read as a NumPy array ({why}).")
    loaded = load_npy(path, path, mmap_mode="r")  # So that its claims are looked at before they are paid for.
    if not isinstance(loaded, np.ndarray) or loaded.dtype.kind not in "fiu":
        raise ValueError(f"{path} does not hold one array of numbers.")
    if loaded.ndim not in (1, 2) or not loaded.size:
        raise ValueError(f"{path} holds an array of shape {loaded.shape}; give one vector, or a row per query.")
    bounds.check_count(f"numbers in a row of {path.name}", loaded.shape[-1], bounds.MAX_DIM)
    bounds.check_count(f"queries in {path.name}", loaded.size // loaded.shape[-1], bounds.MAX_QUERIES)
    return np.array(loaded)


def run_bench(options: argparse.Namespace) -> int:
    """Compare ways to answer the same queries."""
    request = ComparisonRequest(
        options.collection,
        np.atleast_2d(_queries(options.queries)),
        options.kind,
        options.k,
        options.recall,
        options.contenders,
        options.n_probe,
        options.sweep,
        options.cold,
        options.limit,
        options.threads,
        None if options.calibrate is None else np.atleast_2d(_queries(options.calibrate)),
        options.scratch,
    )
    bench = Benchmark(request)
    if bench.disk_nbytes:
        say(
            f"The naive loop's files take {readable_bytes(bench.disk_nbytes)} in {bench.scratch}; they go again at the end.",
            error=True,
        )
    with Line() as line:
        verdict = bench.run(line.show)
    say(*verdict.notes, error=True)
    if options.json:
        print_json([each.document() for each in verdict.results])
    else:
        say(verdict.summary, *format_table(verdict.results))
    return 0


def run_stats(options: argparse.Namespace) -> int:
    """Say what is in a collection."""
    with Collection.open(options.collection) as collection:
        stats = collection.stats()
    if options.json:
        print_json(asdict(stats))
        return 0
    say(
        f"{stats.path}: {stats.n_frames:,} frames of {stats.n_videos} videos, {stats.dim} dimensions, {readable_bytes(stats.nbytes)}"
    )
    say(f"{stats.placement} placement, {stats.n_cells:,} cells, codec {stats.codec}, encoder {stats.encoder or 'none'}")
    say(f"Router: {stats.router or 'none'}: {stats.why_router}")
    for shard in stats.shards:
        recorded = (
            ""
            if shard.captured is None
            else f", {shard.captured[0]:%Y-%m-%d %H:%M} to {shard.captured[1]:%Y-%m-%d %H:%M}"
        )
        say(
            f"  {shard.name}: {shard.n_frames:,} frames, {len(shard.videos)} videos, {readable_bytes(shard.nbytes)}{recorded}; {shard.summary}"
        )
    say(f"Tags: {', '.join(f'{tag} {count:,}' for tag, count in stats.tags.items()) or 'none'}", *stats.notes)
    return 0


def run_memory(options: argparse.Namespace) -> int:
    """Say where the bytes of a collection are."""
    with Collection.open(options.collection) as collection:
        told = collection.memory()
    return _say(options, *format_account(told).split("\n"), **told.document())


def run_check(options: argparse.Namespace) -> int:
    """Compare every stored file with its checksum."""
    with Collection.open(options.collection) as collection:
        found = collection.check()
    if options.json:
        print_json({"problems": found})
    else:
        say(*found or ("Every file is what was written.",))
    return 1 if found else 0


def run_compact(options: argparse.Namespace) -> int:
    """Drop deleted frames from the files."""
    with Collection.open(options.collection) as collection:
        dropped = collection.compact()
    return _say(options, f"Dropped {dropped:,} deleted frames from the files.", dropped=dropped)


def run_delete(options: argparse.Namespace) -> int:
    """Take a video out of every answer."""
    with Collection.open(options.collection) as collection:
        n = collection.delete(options.video_id)
    text = f"Deleted {n:,} frames of {options.video_id}; compact gives their space back."
    return _say(options, text, video_id=options.video_id, n_frames=n)


def run_export(options: argparse.Namespace) -> int:
    """Write vectors and a table of the frames."""
    with Collection.open(options.collection) as collection:
        n = collection.export(options.vectors, options.frames)
        settings = collection.settings
    state = "normalised " if settings.metric == "ip" else ""
    return _say(
        options,
        f"Wrote {n:,} {state}{settings.store} vectors to {options.vectors} and their frames to {options.frames}.",
        n_frames=n,
        dim=settings.dim,
        vectors=str(options.vectors),
        frames=str(options.frames),
    )


def run_trust(options: argparse.Namespace) -> int:
    """Say what a collection names outside itself, and allow what was asked for."""
    kinds: set[TrustKind] = {"film", "pictures"} if options.media or options.all else set()
    kinds |= {"encoder"} if options.encoder or options.all else set()
    named = trusting.allow(options.collection, kinds, options.root)
    n = sum(each.allowed for each in named)
    return _say(options, trusting.describe(named), named=[asdict(each) for each in named], allowed=n)


def run_tune(options: argparse.Namespace) -> int:
    """Foresee another layout, beside what is measured as the collection is."""
    with Collection.open(options.collection) as collection:
        if options.queries is None:
            samples = sample_queries(collection, N_QUERIES, options.kind)
            queries, unseen = samples.vectors, samples.unseen
        else:
            queries, unseen = np.atleast_2d(_queries(options.queries))[:N_QUERIES], True
    with Line() as line:
        tuner = prepare_tuner(
            options.collection, queries, options.kind, options.k, line.show, unseen=unseen, placements=None
        )
        if options.try_cells:
            tuner = with_cells_tried(options.collection, tuner, line.show)
        today = tuner.today.setting
        setting = LayoutSetting(
            options.shards or today.n_shards,
            options.placement or today.placement,
            options.recall,
            options.max_shards,
            today.cache_bytes if options.cache is None else parse_bytes(options.cache),
            options.cells,
            options.codec,
        )
        outcome = tuner.predict(setting)
    if not unseen:
        say("The router was fitted on these queries, so that others find a little less.", error=True)
    if options.json:
        print_json(outcome.document() | {"today": tuner.today.document()})
        return 0
    say(tuner.today.line, outcome.line)
    return 0


def run_plan(options: argparse.Namespace) -> int:
    """Say how many shards, and what they take."""
    plan = plan_shards(
        parse_bytes(options.ram),
        options.vectors,
        options.dim,
        codec=options.codec,
        store=options.store,
        n_cells=options.cells,
        shard_bytes=None if options.shard_size is None else parse_bytes(options.shard_size),
        workers=options.workers,
    )
    derived = ("resident_nbytes", "disk_nbytes", "fits", "exact_is_enough", "reason")
    return _say(
        options, *format_plan(plan).split("\n"), **asdict(plan), **{name: getattr(plan, name) for name in derived}
    )


def _say(options: argparse.Namespace, *lines: str, **document: Any) -> int:
    """The same result for scripts or for people."""
    if options.json:
        print_json(document)
    else:
        say(*lines)
    return 0
