"""Searching from the command line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from engine.cli.options import (
    FRACTION,
    INT,
    MOMENT,
    PATH,
    SECONDS,
    Alternative,
    OneOf,
    Value,
    collection_argument,
    gathered,
    json_option,
    k_option,
)
from engine.cli.output import print_json, print_result, say, search_document
from engine.types import DAYPARTS, Filter


def parse_hours(text: str) -> tuple[int, ...]:
    """Hours of the day from single ones and spans, whose end is excluded."""
    hours: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise click.BadParameter(f"{part!r} is not an hour or a span such as 18-22")
        start, stop = int(first), int(last) if dash else int(first) + 1
        if start > 23 or stop > 24 or start == stop:
            raise click.BadParameter(f"{part!r} is not a span of hours between 0 and 24")
        hours += [hour % 24 for hour in range(start, stop if stop > start else stop + 24)]
    return tuple(sorted(set(hours)))


def _filter(
    start: float | None, stop: float | None, after: datetime | None, before: datetime | None, **fields: Any
) -> Filter:
    return Filter(seconds=(start, stop), captured=(after, before), **fields)


def _tags(name: str, which: str) -> Any:
    return click.option(
        f"--tag-{name}", f"tags_{name}", multiple=True, metavar="KIND:LABEL", help=f"Only frames with {which}."
    )


_filter_options = gathered(
    "where",
    _filter,
    click.option("--video", "videos", multiple=True, metavar="ID", help="Only this video; repeat for more."),
    click.option(
        "--from", "start", type=SECONDS, metavar="T", help="Only from this time of the video on: 90, 1:30 or 0:21:07."
    ),
    click.option("--to", "stop", type=SECONDS, metavar="T", help="Only before this time of the video."),
    click.option(
        "--after",
        type=MOMENT,
        metavar="TIME",
        help="Only recorded from this time on: 2024-05-01, '2024-05-01 18:30' or yesterday.",
    ),
    click.option("--before", type=MOMENT, metavar="TIME", help="Only recorded before this time."),
    click.option(
        "--daypart", "dayparts", type=OneOf(*DAYPARTS), multiple=True, help="Only recorded at this time of day."
    ),
    click.option(
        "--hours",
        type=Value("hours", parse_hours),
        default=(),
        metavar="H",
        help="Only recorded in these hours: 7,8,9 or 18-22 (until 22:00); 22-3 wraps midnight.",
    ),
    _tags("any", "any of these tags"),
    _tags("all", "all of these tags"),
    _tags("none", "none of these tags"),
)


_request_options = gathered(
    "options",
    dict,
    click.option(
        "--recall",
        cls=Alternative,
        instead_of=("--n-probe", "--exact"),
        type=FRACTION,
        metavar="R",
        help="Share of the exact answer to find, such as 0.95.",
    ),
    click.option(
        "--n-probe",
        cls=Alternative,
        instead_of=("--recall", "--exact"),
        type=INT,
        metavar="N",
        help="Cells to probe.",
    ),
    click.option(
        "--exact", cls=Alternative, instead_of=("--recall", "--n-probe"), is_flag=True, help="Scan every frame."
    ),
    click.option(
        "--aim",
        type=OneOf("rows", "shards"),
        help="What to spend least of for the recall: rows compared, or shards opened; if left out, rows where all shards fit in memory.",
    ),
    click.option("--max-shards", type=INT, metavar="M", help="Open at most M shards."),
    click.option(
        "--router",
        type=OneOf("learned", "spread", "centroid"),
        help="How cells are ranked; the best there is, if left out.",
    ),
    click.option(
        "--kind", type=OneOf("text", "image"), help="What the vectors are; if left out: text, and image for --frame."
    ),
    click.option("--per-shot", type=INT, metavar="N", help="At most N hits from one shot."),
    click.option("--allow-partial", is_flag=True, help="Answer without shards that fail; the exit status is 1 then."),
    click.option(
        "--prefer-tag",
        "boost",
        multiple=True,
        callback=lambda context, parameter, tags: Filter(tags_all=tags),
        metavar="KIND:LABEL",
        help="Of hits with the same score those with this tag first; under --max-shards, shards that carry it earlier.",
    ),
    click.option(
        "--also",
        "force_shards",
        type=INT,
        multiple=True,
        metavar="SHARD",
        help="Open this shard whole, too; repeat for more.",
    ),
)


@click.command("search")
@collection_argument
@click.argument("text", required=False)
@click.option("--vector", type=PATH, metavar="Q.npy", help="A vector, or a row per query for several.")
@click.option("--frame", type=INT, metavar="ID", help="A stored frame as the query.")
@k_option
@_request_options
@_filter_options
@click.option("--workers", type=INT, default=1, metavar="N", help="Shards searched at the same time.")
@click.option("--mapped", is_flag=True, help="Map codes from the files instead of loading them.")
@click.option(
    "--remember", is_flag=True, help="Keep the query's vector, for the next build to fit its router on as well."
)
@click.option("--missed", is_flag=True, help="Say what an exact search finds beyond this, and why.")
@json_option
def search_command(
    collection: Path,
    text: str | None,
    vector: Path | None,
    frame: int | None,
    k: int,
    options: dict[str, Any],
    where: Filter,
    workers: int,
    mapped: bool,
    remember: bool,
    missed: bool,
    as_json: bool,
) -> int:
    """Find frames by text, vectors or a stored frame."""
    from engine.collection import Collection
    from engine.search import SearchRequest
    from engine.text import find_unknown_words
    from engine.vectors import check_rows, read_queries

    if [text, vector, frame].count(None) != 2:
        raise ValueError("Give either a text or --vector or --frame, and not two of them.")
    if workers < 1:
        raise ValueError(f"{workers} workers cannot search; give 1 or more.")
    array = None if vector is None else read_queries(vector)
    many = array is not None and array.ndim == 2
    queries: list[Any] = [text if text is not None else frame] if array is None else list(array) if many else [array]
    with Collection.open(
        collection, workers=workers, residency="mapped" if mapped else "auto", remember=remember
    ) as opened:
        if text is not None:
            warning = find_unknown_words(opened.encoder, text).sentence()  # Loads it before the clock starts.
            if warning:
                say(warning, error=True)
        if array is not None and many and array.shape[1] == opened.settings.dim:
            check_rows(array, opened.settings.metric, "fp32", str(vector))
        request = SearchRequest(k, where=where, **options)
        results = opened.searcher.search_many(queries, request)
        shortfalls = [
            opened.searcher.missed(query, result, request) if missed else None
            for query, result in zip(queries, results, strict=True)
        ]
    answers = list(zip(results, shortfalls, strict=True))
    if as_json:
        documents = [search_document(*answer) for answer in answers]
        print_json(documents if many else documents[0])
    else:
        for i, answer in enumerate(answers):
            if many:
                say(f"Query {i}")
            print_result(*answer)
    return 1 if any(result.trace.missing for result in results) else 0
