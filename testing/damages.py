"""Bytes that change, files that are cut short or vanish: `check` must name them, and no use may answer from them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from engine.collection import Collection
from engine.errors import EngineError
from engine.storage.catalog import Catalog
from engine.types import Filter
from testing.faults import EVERYTHING, QUERIES, Model, Tally, copied, one_sentence, timed, waiting_for_no_disk

KINDS = {
    "vectors.npy": "segments/*/vectors.npy",
    "frames.arrow": "segments/*/frames.arrow",
    "cells.npy": "segments/*/cells.npy",
    "codes.faiss": "segments/*/codes.faiss",
    "cells/": "cells/*/*.npy",
    "routers/": "routers/*/*.npy",
    "catalog.sqlite": "catalog.sqlite",
    "media/": "media/*/*.jpg",
}
_FILTERS = (Filter(videos=("v2",)), Filter(tags_any=("object:cat", "scene:beach")), Filter(seconds=(4.0, 30.0)))


def damage(path: Path, rng: random.Random) -> str:
    """Change a byte, cut the file short, or take it away; says which."""
    content = bytearray(path.read_bytes())
    how = rng.choice(("flip", "flip", "flip", "cut", "cut", "gone"))
    if how == "flip" and content:
        at = rng.randrange(len(content))
        content[at] ^= rng.randrange(1, 256)
        path.write_bytes(content)
        return f"byte {at} of {len(content)} changed"
    if how == "cut" and content:
        left = rng.randrange(len(content))
        path.write_bytes(content[:left])
        return f"cut to {left} of {len(content)} bytes"
    path.unlink()
    return "taken away"


@dataclass(frozen=True)
class Use:
    name: str
    ask: Callable[[Collection], object]
    residency: str = "loaded"


def _hits(result) -> object:
    return [(h.frame_id, round(h.score, 4), h.video_id, h.frame_index, h.seconds, h.tags) for h in result.hits]


def uses_of(ids: Sequence[int]) -> list[Use]:
    """Questions about all that a collection holds; some name frames by these ids."""
    uses = [
        Use("exact", lambda c: [_hits(r) for r in c.search_many(QUERIES, 1000, exact=True)]),
        Use("routed", lambda c: [_hits(r) for r in c.search_many(QUERIES, 10, n_probe=3)]),
        Use("routed, mapped", lambda c: [_hits(r) for r in c.search_many(QUERIES, 10, n_probe=3)], "mapped"),
        Use("wide, mapped", lambda c: [_hits(r) for r in c.search_many(QUERIES, 50, n_probe=9)], "mapped"),
        Use("frames", lambda c: [(f.video_id, f.frame_index, f.seconds, f.tags) for f in map(c.frame, ids)]),
        Use("vectors", lambda c: [c.vector(i).tolist() for i in ids]),
        Use("neighbours", lambda c: [(f.frame_id, f.video_id, f.seconds) for f in c.neighbours(ids[0])]),
        Use("videos", lambda c: c.videos()),
        Use("stats", lambda c: (c.stats().n_frames, c.stats().tags, [s.n_frames for s in c.stats().shards])),
    ]
    for where in _FILTERS:
        uses.append(Use("filtered", lambda c, where=where: _hits(c.search(QUERIES[1], 20, where=where))))
        uses.append(
            Use("filtered, exact", lambda c, where=where: _hits(c.search(QUERIES[1], 20, where=where, exact=True)))
        )
    return uses


def _shards_of(path: Path) -> dict[int, frozenset[int]]:
    with Collection.open(path) as collection, collection.reading() as snapshot:
        return {
            shard.shard: frozenset(
                int(i) for view in shard.segments for i in view.segment.columns.frame_id[view.live_rows()]
            )
            for shard in snapshot.shards
        }


def _counters(path: Path) -> tuple[object, list[int]]:
    """What the newest generation lists, and which numbers are free."""
    with closing(Catalog.open(path / "catalog.sqlite")) as catalog:
        names = ("frame", "video", "segment", "layout", "cells", "router")
        return catalog.manifest(catalog.current_generation()), [catalog.counter(name) for name in names]


def corrupt(
    base: Path, model: Model, work: Path, times: int, *, kinds: Sequence[str] = tuple(KINDS), seed: int = 0
) -> Tally:
    """Damage one file at a time: `check` must name it, and no use may give a wrong answer."""
    tally, rng = Tally("damage" if len(kinds) > 1 else f"damage to {kinds[0]}"), random.Random(seed)
    ids = random.Random(1).sample(model.truth.ids.tolist(), 12)
    uses = uses_of(ids)
    right: dict[str, object] = {}
    with Collection.open(base) as collection, collection.writing():
        pass
    for i, use in enumerate(uses):
        with Collection.open(base, residency=use.residency) as collection:
            right[f"{i}"] = use.ask(collection)
    shards, content = _shards_of(base), _counters(base)
    with timed(tally), waiting_for_no_disk():
        for n in range(times):
            kind = kinds[n % len(kinds)]
            with copied(base, work / "damaged") as path:
                files = sorted(path.glob(KINDS[kind]))
                # Cells and routers have several small files; each gets its turn.
                target = files[n // len(kinds) % len(files)] if kind in ("cells/", "routers/") else rng.choice(files)
                how = damage(target, rng)
                what = f"{target.relative_to(path)}, {how}"
                tally.tried += 1
                told = _check(path)
                for sentence in told:
                    if isinstance(sentence, BaseException):
                        tally.miss(f"{what}: check: {type(sentence).__name__}: {sentence}")
                named = _named(target.relative_to(path), [str(each) for each in told])
                stopped, wrong = _use(path, uses, right, model, shards)
                for each in wrong:
                    tally.miss(f"{what}: {each}")
                tally.by_check += bool(told)
                tally.by_use += stopped
                if told and not named:
                    tally.miss(f"{what}: check names something else: {told}")
                if not told:
                    if kind != "catalog.sqlite":
                        tally.miss(f"{what}: check finds nothing")
                    else:
                        try:
                            same = _counters(path) == content
                        except EngineError:
                            same = True  # Told of when it was used.
                            tally.by_use += not stopped
                        if not same:
                            tally.miss(f"{what}: check finds nothing, and the content is another")
                        elif not stopped:
                            tally.harmless += 1
    return tally


def _check(path: Path) -> list[object]:
    try:
        with Collection.open(path) as collection:
            return list(collection.check())
    except EngineError as error:
        return [str(error)]
    except Exception as error:
        return [error]


def _named(file: Path, told: Sequence[str]) -> bool:
    if file.parts[0] == "media":
        return any("thumbnails" in each for each in told)
    if len(file.parts) == 1:
        return any("catalog" in each or "no collection in" in each for each in told)
    return any(file.name in each and file.parts[1] in each for each in told)


def _use(
    path: Path, uses: Sequence[Use], right: dict[str, object], model: Model, shards: dict[int, frozenset[int]]
) -> tuple[bool, list[str]]:
    """Whether any use was refused, and what went wrong."""
    stopped, wrong = False, []
    for i, use in enumerate(uses):
        try:
            with Collection.open(path, residency=use.residency) as collection:
                found = use.ask(collection)
            if found != right[f"{i}"]:
                wrong.append(f"{use.name}: a wrong answer")
        except EngineError as error:
            stopped = True
            if not one_sentence(error):
                wrong.append(f"{use.name}: not one sentence: {error}")
        except Exception as error:
            wrong.append(f"{use.name}: {type(error).__name__}: {error}")
    for residency in ("loaded", "mapped"):
        for exact in (True, False):
            probes = {} if exact else {"n_probe": EVERYTHING}
            try:
                with Collection.open(path, residency=residency) as collection:
                    result = collection.search(QUERIES[0], 1000, exact=exact, allow_partial=True, **probes)
            except EngineError:
                stopped = True
                continue
            except Exception as error:
                wrong.append(f"partial: {type(error).__name__}: {error}")
                continue
            failed = {shard.shard for shard in result.trace.shards if shard.state == "failed"}
            stopped |= bool(failed)
            if len(result.trace.missing) != len(failed):
                wrong.append(f"partial: {len(failed)} shards failed, and {result.trace.missing} are told of")
            rest = frozenset().union(*(of for number, of in shards.items() if number not in failed))
            fault = model.truth.wrong(0, result.hits, 1000, rest)
            if fault:
                wrong.append(f"partial, exact {exact}, {residency}: {fault}")
    return stopped, wrong
