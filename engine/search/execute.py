"""Searching the selected shards through the cache, one after another or side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from engine.errors import ShardFailed
from engine.frames import FrameColumns
from engine.search.failures import FAULTS, shard_failure
from engine.search.shard_selection import Probe, ShardProbes
from engine.storage import ByteLRU, Residency, Segment, ShardView
from engine.system import map_on_pool
from engine.vectors import Floats, Lists, ListStack, RowHits, Rows, one_thread

ShardCache = ByteLRU[Lists]


@dataclass(frozen=True, slots=True)
class Depth:
    """How many rows are wanted of each segment."""

    exact: int
    coded: int
    """Where scores come from codes and are replaced by exact ones later."""


@dataclass(frozen=True, slots=True)
class ShardAnswer:
    """What a shard gave."""

    shard: ShardView
    probes: tuple[Probe, ...] = ()
    found: tuple[RowHits, ...] = ()
    """By probe; fewer if it failed."""
    columns: tuple[FrameColumns, ...] = ()
    """Of the segment of each probe that gave something."""
    bytes_read: int = 0
    loads: int = 0
    """Segments that were read from disk."""
    ms: float = 0.0
    error: ShardFailed | None = None
    """Why it could not be searched."""


class Stacks:
    """The lists of segments that were searched together, side by side; see `ListStack`. For any number of threads."""

    def __init__(self) -> None:
        self._by_kind: dict[tuple[object, ...], ListStack] = {}

    def of(self, parts: Sequence[Lists]) -> ListStack:
        """One that holds these parts, which are of one kind, and what it held before."""
        kind = parts[0].kind
        stack = self._by_kind.get(kind)
        if stack is None or not stack.holds(parts):
            others = [] if stack is None else [part for part in stack.parts if part not in parts]
            # Those of other kinds that nothing is left of are of a training that is gone.
            self._by_kind = {other: held for other, held in self._by_kind.items() if held.parts}
            stack = self._by_kind[kind] = ListStack([*others, *parts])
        return stack


@dataclass(frozen=True, slots=True)
class Prober:
    """Searches shards: it has the cache that they come through, and the threads."""

    cache: ShardCache
    residency: Residency = "loaded"
    executor: Executor | None = None
    workers: int = 1
    stacks: Stacks = field(default_factory=Stacks)

    def run(self, opened: Sequence[ShardProbes], queries: Floats, depth: Depth) -> list[ShardAnswer]:
        """Search each shard, side by side if there is an executor, else in one call of FAISS. A fault is kept with the answer."""
        if self.executor is None and len(opened) > 1:
            return _Together(self, queries, depth).answers(opened)
        if self.executor is None or len(opened) <= 1:
            return [self._search_shard(shard, queries, depth) for shard in opened]
        return map_on_pool(self.executor, self.workers, partial(self._in_thread, queries=queries, depth=depth), opened)

    @one_thread()
    def _in_thread(self, opened: ShardProbes, queries: Floats, depth: Depth) -> ShardAnswer:
        return self._search_shard(opened, queries, depth)

    def _search_shard(self, opened: ShardProbes, queries: Floats, depth: Depth) -> ShardAnswer:
        slot = _Slot(opened)
        started = time.perf_counter()
        for number, probe in enumerate(opened.probes):
            try:
                slot.read_columns(number)
                slot.found[number] = self.search(probe, queries, depth, slot.reads)
            except FAULTS as fault:
                slot.fail(probe.segment, fault)
                break
        slot.ms = (time.perf_counter() - started) * 1e3
        return slot.answer

    def search(self, probe: Probe, queries: Floats, depth: Depth, reads: list[int]) -> RowHits:
        """The best rows of a segment; if it is read from disk, the bytes are noted."""
        candidate, segment = probe.candidate, probe.segment
        if probe.lists is None:
            wanted = queries if len(probe.which) == len(queries) else queries[probe.which]
            best, n_bytes = segment.scan(wanted, depth.exact, candidate.mask, candidate.n_passing)
            if n_bytes:
                reads.append(n_bytes)
            return best
        lists = self.take(segment, reads)
        try:
            return self.search_lists(lists, probe, queries, depth)
        finally:
            self.give_back(segment, lists)

    def take(self, segment: Segment, reads: list[int]) -> Lists:
        """The lists of a segment, held in the cache until they are given back; if they are read from disk, the bytes are noted."""
        lists, was_there = self.cache.take(
            segment.row.segment_id, lambda: segment.load(self.residency), lambda loaded: loaded.sound
        )
        if not was_there:
            reads.append(segment.load_nbytes(self.residency))
        return lists

    def give_back(self, segment: Segment, lists: Lists) -> None:
        """Let the cache drop what was taken."""
        self.cache.give_back(segment.row.segment_id, lists)

    def search_lists(self, loaded: Lists, probe: Probe, queries: Floats, depth: Depth) -> RowHits:
        """The best rows in the lists of a probe, which has some."""
        assert probe.lists is not None
        wanted = queries if len(probe.which) == len(queries) else queries[probe.which]
        k = depth.exact if loaded.exact else depth.coded
        return loaded.search(wanted, probe.lists, k, probe.candidate.mask, probe.candidate.n_passing)


@dataclass(slots=True)
class _Slot:
    """What a shard has given so far."""

    opened: ShardProbes
    found: dict[int, RowHits] = field(default_factory=dict)
    """By number of the probe."""
    columns: list[FrameColumns] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    ms: float = 0.0
    error: ShardFailed | None = None

    def read_columns(self, number: int) -> None:
        """Read the columns of a probe's segment here, where a fault is this shard's, and not first when hits are looked up."""
        self.columns.append(self.opened.probes[number].segment.columns)

    def fail(self, segment: Segment, fault: Exception) -> None:
        self.error = self.error or shard_failure(self.opened.shard, segment, fault)

    @property
    def answer(self) -> ShardAnswer:
        probes, found = self.opened.probes, []
        for number in range(len(probes)):
            if number not in self.found:  # It failed.
                break
            found.append(self.found[number])
        columns = tuple(self.columns[: len(found)])
        n_bytes, loads = sum(self.reads), len(self.reads)
        return ShardAnswer(self.opened.shard, probes, tuple(found), columns, n_bytes, loads, self.ms, self.error)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Lists that are held in the cache, to be searched with others."""

    slot: _Slot
    number: int
    probe: Probe
    part: Lists


class _Together:
    """A search of several shards in one call of FAISS, or in a few where the cache has not room for all at once."""

    def __init__(self, prober: Prober, queries: Floats, depth: Depth) -> None:
        self._prober = prober
        self._queries = queries
        self._depth = depth
        self._taken: list[tuple[Segment, Lists]] = []
        self._waiting: list[_Waiting] = []
        self._nbytes = 0

    def answers(self, opened: Sequence[ShardProbes]) -> list[ShardAnswer]:
        slots = [_Slot(shard) for shard in opened]
        try:
            for slot in slots:
                started = time.perf_counter()
                for number, probe in enumerate(slot.opened.probes):
                    try:
                        slot.read_columns(number)
                        if probe.lists is None or probe.candidate.mask is not None:
                            slot.found[number] = self._prober.search(probe, self._queries, self._depth, slot.reads)
                        else:
                            self._hold(slot, number, probe, probe.lists)
                    except FAULTS as fault:
                        slot.fail(probe.segment, fault)
                        break
                slot.ms += (time.perf_counter() - started) * 1e3
            self._search()
        finally:
            self._let_go()
        return [slot.answer for slot in slots]

    def _let_go(self) -> None:
        for segment, lists in self._taken:
            self._prober.give_back(segment, lists)
        self._taken, self._waiting, self._nbytes = [], [], 0

    def _hold(self, slot: _Slot, number: int, probe: Probe, lists: Rows) -> None:
        """Hold the lists of a segment; those that wait are searched first if there is no room beside them."""
        prober, segment = self._prober, probe.segment
        cache, key = prober.cache, segment.row.segment_id
        full = self._waiting and not cache.nbytes_of(key)
        if full and self._nbytes + segment.load_nbytes(prober.residency) > cache.budget:
            self._search()
        part = prober.take(segment, slot.reads)
        self._taken.append((segment, part))
        part.check(lists)
        self._nbytes += part.nbytes
        self._waiting.append(_Waiting(slot, number, probe, part))
        if self._nbytes > cache.budget:
            self._search()

    def _search(self) -> None:
        """Search what waits, and let go of it."""
        kinds: dict[tuple[object, ...], list[_Waiting]] = {}
        for each in self._waiting:
            if each.slot.error is None:
                kinds.setdefault(each.part.kind, []).append(each)
        for some in kinds.values():
            started = time.perf_counter()
            found = self._of_kind(some)
            ms = (time.perf_counter() - started) * 1e3
            scanned = [0 if hits is None else int(hits.scanned.sum()) for hits in found]
            for each, hits, n_rows in zip(some, found, scanned, strict=True):
                each.slot.ms += ms * n_rows / max(1, sum(scanned))
                if hits is not None:
                    each.slot.found[each.number] = hits
        self._let_go()

    def _of_kind(self, some: Sequence[_Waiting]) -> list[RowHits | None]:
        """What lists of one kind give; None for those that failed."""
        k = self._depth.exact if some[0].part.exact else self._depth.coded
        if len(some) > 1:
            stack = self._prober.stacks.of([each.part for each in some])
            wanted = [(each.part, each.probe.which, each.probe.lists) for each in some if each.probe.lists is not None]
            try:
                return [*stack.search(self._queries, wanted, k)]
            except FAULTS:
                pass  # Found out below whose fault it is.
        found: list[RowHits | None] = []
        for each in some:
            try:
                found.append(self._prober.search_lists(each.part, each.probe, self._queries, self._depth))
            except FAULTS as fault:
                each.slot.fail(each.probe.segment, fault)
                found.append(None)
        return found
