"""Comparing, tuning and planning from the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from engine.cli.options import (
    COUNT,
    FRACTION,
    INT,
    PATH,
    SIZE,
    Alternative,
    Explained,
    OneOf,
    Value,
    collection_argument,
    json_option,
    k_option,
    read_rows,
)
from engine.cli.output import Line, print_json, say, say_or_json


def _contenders() -> str:
    from engine.lab.compare import CONTENDER_NAMES

    return f"Of {', '.join(CONTENDER_NAMES)}; all that fit, if left out."


@click.command("bench")
@collection_argument
@click.option("--queries", required=True, type=PATH, metavar="Q.npy", help="A row per query.")
@click.option("--kind", type=OneOf("text", "image"), default="text", help="What the queries are vectors of.")
@k_option
@click.option(
    "--contenders",
    cls=Explained,
    explain=_contenders,
    type=Value("list", lambda text: tuple(filter(None, map(str.strip, text.split(","))))),
    default=(),
    metavar="A,B,...",
)
@click.option(
    "--recall",
    cls=Alternative,
    instead_of=("--n-probe", "--sweep"),
    type=FRACTION,
    default=0.95,
    metavar="R",
    help="What those that open some shards should reach.",
)
@click.option(
    "--n-probe",
    cls=Alternative,
    instead_of=("--recall", "--sweep"),
    type=INT,
    metavar="N",
    help="Cells that they probe, instead.",
)
@click.option(
    "--sweep", cls=Alternative, instead_of=("--recall", "--n-probe"), is_flag=True, help="Try them at many widths."
)
@click.option(
    "--calibrate",
    type=PATH,
    metavar="Q.npy",
    help="Queries to find the widths on; if left out, every second of the others, and the rest are measured.",
)
@click.option("--cold", is_flag=True, help="Drop the files from memory before each query (20 of them unless --limit).")
@click.option("--limit", type=INT, metavar="N", help="Measure the first N queries.")
@click.option("--threads", type=INT, default=1, metavar="N", help="Threads per contender.")
@click.option(
    "--scratch",
    type=PATH,
    metavar="FOLDER",
    help="Where the naive loop's files are written; in the system's folder, if left out.",
)
@json_option
def bench_command(
    collection: Path,
    queries: Path,
    kind: Any,
    k: int,
    contenders: tuple[str, ...],
    recall: float,
    n_probe: int | None,
    sweep: bool,
    calibrate: Path | None,
    cold: bool,
    limit: int | None,
    threads: int,
    scratch: Path | None,
    as_json: bool,
) -> int:
    """Compare ways to answer the same queries."""
    from engine.lab.compare import Benchmark, ComparisonRequest, format_table
    from engine.system import readable_bytes

    rows = read_rows(queries)
    assert rows is not None
    bench = Benchmark(
        ComparisonRequest(
            collection,
            rows,
            kind,
            k,
            recall,
            contenders,
            n_probe,
            sweep,
            cold,
            limit,
            threads,
            read_rows(calibrate),
            scratch,
        )
    )
    if bench.disk_nbytes:
        say(
            f"The naive loop's files take {readable_bytes(bench.disk_nbytes)} in {bench.scratch}; they go again at the end.",
            error=True,
        )
    with Line() as line:
        report = bench.run(line.show)
    say(*report.notes, error=True)
    if as_json:
        print_json([result.document() for result in report.results])
    else:
        say(report.summary, *format_table(report.results))
    return 0


@click.command("tune")
@collection_argument
@click.option("--shards", type=INT, metavar="N", help="Shards to foresee; as many as there are, if left out.")
@click.option("--placement", metavar="P", help="Placement to foresee; the collection's, if left out.")
@click.option("--recall", type=FRACTION, default=0.95, metavar="R", help="That searches ask for.")
@click.option("--max-shards", type=INT, metavar="M", help="Shards that a search may open.")
@click.option("--cache", type=SIZE, metavar="SIZE", help="Budget of the shard cache, such as 512MB; 1GB, if left out.")
@click.option("--cells", type=INT, default=0, metavar="N", help="Other cells, tried out before by --try-cells.")
@click.option("--codec", default="", metavar="X", help="Another codec.")
@k_option
@click.option(
    "--queries",
    type=PATH,
    metavar="Q.npy",
    help="A row per test query; texts that the encoder reads, if left out.",
)
@click.option("--kind", type=OneOf("text", "image"), default="text", help="What the test queries are vectors of.")
@click.option(
    "--try-cells", is_flag=True, help="First train other numbers of cells, in memory; takes minutes and is kept."
)
@json_option
def tune_command(
    collection: Path,
    shards: int | None,
    placement: str | None,
    recall: float,
    max_shards: int | None,
    cache: int | None,
    cells: int,
    codec: str,
    k: int,
    queries: Path | None,
    kind: Any,
    try_cells: bool,
    as_json: bool,
) -> int:
    """Predict what other shards, cells or searches would bring."""
    from engine.collection import Collection
    from engine.datasets import sample_queries
    from engine.errors import EncoderError
    from engine.lab.tuning import N_QUERIES, LayoutSetting, prepare_tuner, with_cells_tried

    with Collection.open(collection) as opened:
        rows, unseen = read_rows(queries), True
        if rows is None:
            try:
                samples = sample_queries(opened, N_QUERIES, kind)
            except EncoderError as error:
                raise EncoderError(
                    f"{error} Give test queries with --queries, or take stored frames with --kind image."
                ) from error
            rows, unseen = samples.vectors, samples.unseen
    with Line() as line:
        tuner = prepare_tuner(collection, rows[:N_QUERIES], kind, k, line.show, unseen=unseen, placements=None)
        if try_cells:
            tuner = with_cells_tried(collection, tuner, line.show)
        today = tuner.today.setting
        setting = LayoutSetting(
            shards or today.n_shards,
            placement or today.placement,
            recall,
            max_shards,
            today.cache_bytes if cache is None else cache,
            cells,
            codec,
        )
        outcome = tuner.predict(setting)
    if not unseen:
        say("The router was fitted on these queries, so that others find a little less.", error=True)
    told = tuner.without_effect(outcome)
    document = outcome.document() | {"without_effect": told, "today": tuner.today.document()}
    return say_or_json(as_json, tuner.today.line, outcome.line, *told, **document)


@click.command("plan")
@click.option("--ram", required=True, type=SIZE, metavar="SIZE", help="Memory for the collection, such as 8GB.")
@click.option("--dim", required=True, type=INT, metavar="D", help="Numbers per vector.")
@click.option(
    "--vectors", type=COUNT, metavar="N", help="Frames, such as 3,000,000 or 3M; left out, as many as stay in memory."
)
@click.option("--codec", default="sq8", metavar="X", help="sq8, sq4, fp16 or fp32.")
@click.option(
    "--store",
    metavar="T",
    help="What is kept of rows: fp16 (default), fp32 or codes; left out with fp32 codes: bare rows.",
)
@click.option("--cells", type=INT, default=0, metavar="N", help="Chosen from the number of frames if left out.")
@click.option("--shard-size", type=SIZE, metavar="SIZE", help="Memory of one open shard at the most, such as 0.5GB.")
@click.option("--workers", type=INT, default=1, metavar="N", help="Shards searched at the same time.")
@json_option
def plan_command(
    ram: int,
    dim: int,
    vectors: int | None,
    codec: str,
    store: str | None,
    cells: int,
    shard_size: int | None,
    workers: int,
    as_json: bool,
) -> int:
    """How many shards fit some memory, before anything is made."""
    from engine.reports import format_plan, plan_shards

    plan = plan_shards(
        ram,
        vectors,
        dim,
        codec=codec,
        store=store,
        n_cells=cells,
        shard_bytes=shard_size,
        workers=workers,
    )
    derived = ("resident_nbytes", "cache_nbytes", "disk_nbytes", "fits", "exact_is_enough", "reason")
    document = asdict(plan) | {name: getattr(plan, name) for name in derived}
    return say_or_json(as_json, *format_plan(plan).split("\n"), **document)
