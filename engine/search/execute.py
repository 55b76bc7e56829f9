"""Searching the selected segments: the lists of all that are in memory in one call of FAISS, or shard by shard in threads."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ShardFailed
from engine.search.failures import FAULTS, shard_failure
from engine.search.shard_selection import Probe, ShardSelection, distinct, padded_lists
from engine.storage import Residency, Segment, ShardCache, Snapshot
from engine.system import map_on_pool
from engine.vectors import PER_STORED_LIST, Floats, Lists, ListStack, RowHits, Rows, StoredList, one_thread


@dataclass(frozen=True, slots=True)
class Depth:
    """How many rows are wanted of each segment."""

    exact: int
    coded: int
    """Where scores come from codes and are replaced by exact ones later."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best rows that one call gave to some queries."""

    which: Rows
    """(n,) the queries, rising."""
    candidates: Rows
    """(n, k) place of each row's segment among the candidates; -1 where there are no more rows."""
    rows: Rows
    """(n, k) row numbers in the segments."""
    scores: Floats
    """(n, k)"""
    exact: bool
    """False where the scores come from codes and want re-scoring."""

    @classmethod
    def of(cls, candidate: int, which: Rows, hits: RowHits) -> Found:
        """What a single segment gave."""
        candidates = np.where(hits.rows >= 0, candidate, -1)
        return cls(which, candidates, hits.rows, hits.scores, hits.exact)


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
    """Searches segments: it has the cache that they come through, and the threads."""

    cache: ShardCache
    residency: Residency = "loaded"
    executor: Executor | None = None
    workers: int = 1
    stacks: Stacks = field(default_factory=Stacks)

    @classmethod
    def of(cls, snapshot: Snapshot, cache: ShardCache, residency: Residency = "auto", **others: Any) -> Prober:
        """For one generation, whose codes the cache may have room for or not."""
        return cls(cache, snapshot.residency(residency, cache.budget), **others)

    def by_list(self, segment: Segment) -> bool:
        """Whether lists of a segment are read and held one by one: not where all of it is held, from a time of more room.

        Rows that have no codes are not in the order of their lists.
        """
        return self.residency == "lists" and segment.coded and not self.holds(segment)

    def holds(self, segment: Segment) -> bool:
        """Whether the cache has all of a segment now."""
        return not self.cache.absent([segment.row.segment_id])

    def to_read(self, segment: Segment, lists: Rows) -> int:
        """Bytes that searching some lists (n,) of a segment would read from disk now."""
        if self.by_list(segment):
            return segment.list_file.nbytes(self.absent(segment, lists))
        return 0 if self.holds(segment) else segment.load_nbytes(self.residency)

    def absent(self, segment: Segment, lists: Rows) -> Rows:
        """Those of some lists (n,) of a segment that are not in the cache now."""
        key = segment.row.segment_id
        keys: list[tuple[int, int]] = [(key, i) for i in lists.tolist()]
        return np.array([i for _, i in self.cache.absent(keys)], np.int64)

    def run(self, selection: ShardSelection, queries: Floats, depth: Depth) -> Answers:
        """Search what was selected, shard by shard in threads if there are any. A fault is kept with the answers."""
        answers = Answers(selection)
        search = _Search(self, selection, queries, depth, answers)
        if self.executor is None:
            search.all()
        else:
            candidates = selection.searched
            shards = selection.filtered.shard_of[candidates].tolist()
            by_shard: dict[int, list[int]] = {}
            for shard, candidate in zip(shards, candidates, strict=True):
                by_shard.setdefault(shard, []).append(candidate)
            map_on_pool(self.executor, self.workers, search.in_thread, [*by_shard.values()])
        return answers


class Answers:
    """What the segments gave, and what each shard took for it. Threads write each to the shards that are theirs."""

    def __init__(self, selection: ShardSelection) -> None:
        n_shards, n_candidates = len(selection.filtered.shards), len(selection.filtered.candidates)
        self.selection = selection
        self.found: list[Found] = []
        self.scanned: Rows = np.zeros((n_candidates, selection.m), np.int64)
        """(candidates, m) rows compared."""
        self.bytes_read = [0] * n_shards
        self.loads = [0] * n_shards
        """Segments that were read from disk."""
        self.ms = np.zeros(n_shards)
        self.errors: dict[int, ShardFailed] = {}
        """Why shards could not be searched, by their place among those that may hold an answer."""

    def place_of(self, candidate: int) -> int:
        """The place of a candidate's shard."""
        return int(self.selection.filtered.shard_of[candidate])

    def fail(self, candidate: int, fault: Exception) -> None:
        """Note a fault in a segment, which is one of its shard."""
        place, filtered = self.place_of(candidate), self.selection.filtered
        if place not in self.errors:
            self.errors[place] = shard_failure(filtered.shards[place][0], filtered.candidates[candidate].segment, fault)

    def failures(self, i: int) -> list[ShardFailed]:
        """Those of the shards that query i wanted to search."""
        choice = self.selection.shards
        return [self.errors[place] for place in sorted(self.errors) if choice is None or choice.opened[place, i]]

    def note_read(self, candidate: int, nbytes: int) -> None:
        """Note that a segment was read from disk."""
        place = self.place_of(candidate)
        self.bytes_read[place] += nbytes
        self.loads[place] += 1

    @contextmanager
    def timed(self, candidate: int) -> Iterator[None]:
        """The time of the block went into this segment's shard."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.ms[self.place_of(candidate)] += (time.perf_counter() - started) * 1e3

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(candidates,) whether a segment is in a shard that failed."""
        return np.isin(self.selection.filtered.shard_of, list(self.errors))


@dataclass(frozen=True, slots=True)
class _Search:
    """One search of some segments."""

    prober: Prober
    selection: ShardSelection
    queries: Floats
    depth: Depth
    answers: Answers
    lists: dict[int, Rows] = field(default_factory=dict)
    """See `lists_in`."""

    def all(self) -> None:
        """Those whose rows may all be returned together, the others one by one."""
        candidates, single = self.selection.filtered.candidates, list(self.selection.whole)
        together: list[int] = []
        for candidate in distinct(self.selection.probed.segment):
            (together if candidates[candidate].mask is None else single).append(candidate)
        self._together(together)
        self.ask_for(candidate for candidate in single if candidate not in self.selection.whole)
        self._one_by_one(single)

    @one_thread()
    def in_thread(self, of_shard: Sequence[int]) -> None:
        """The segments of a shard."""
        self._one_by_one(of_shard)

    def _one_by_one(self, numbers: Iterable[int]) -> None:
        for candidate in numbers:
            if self.answers.place_of(candidate) not in self.answers.errors:
                with self.answers.timed(candidate):
                    try:
                        self._single(candidate)
                    except FAULTS as fault:
                        self.answers.fail(candidate, fault)

    def _single(self, number: int) -> None:
        probe = self.selection.probe(number)
        candidate, segment = probe.candidate, probe.segment
        if probe.lists is None:
            best, nbytes = segment.scan(self._wanted(probe), self.depth.exact, candidate.mask, candidate.n_passing)
            if nbytes:
                self.answers.note_read(number, nbytes)
            self._add(number, probe, best)
            return
        held = self.hold(number)
        try:
            self._search_lists(number, probe, held.lists)
        finally:
            self.prober.cache.give_back(held.taken)

    def _wanted(self, probe: Probe) -> Floats:
        return self.queries if len(probe.which) == len(self.queries) else self.queries[probe.which]

    def _search_lists(self, number: int, probe: Probe, lists: Lists) -> None:
        """Search the lists of a probe, which has some."""
        assert probe.lists is not None
        k, candidate = self.depth.exact if lists.exact else self.depth.coded, probe.candidate
        self._add(number, probe, lists.search(self._wanted(probe), probe.lists, k, candidate.mask, candidate.n_passing))

    def _add(self, number: int, probe: Probe, best: RowHits) -> None:
        self.answers.scanned[number, probe.which] = best.scanned
        self.answers.found.append(Found.of(number, probe.which, best))

    def hold(self, number: int) -> Held:
        """The lists of a segment that are probed, held in the cache until they are given back; what is read from disk is noted."""
        segment, prober = self.selection.filtered.candidates[number].segment, self.prober
        key = segment.row.segment_id
        if not prober.by_list(segment):
            lists, was_there = prober.cache.take(key, lambda: segment.load(prober.residency), _sound)
            assert isinstance(lists, Lists)
            if not was_there:
                self.answers.note_read(number, segment.load_nbytes(prober.residency))
            return Held(number, [(key, lists)], lists)
        wanted = self.lists_in(number)
        keys: list[tuple[int, int]] = [(key, i) for i in wanted.tolist()]
        file = segment.list_file
        stored, loaded = prober.cache.take_all(
            keys, lambda absent: file.read(np.array([i for _, i in absent], np.int64))
        )
        if loaded:
            self.answers.note_read(number, sum(each.nbytes for each in loaded) - PER_STORED_LIST * len(loaded))
        taken = list(zip(keys, stored, strict=True))
        try:
            return Held(number, taken, file.opened(wanted, stored))  # type: ignore[arg-type]
        except BaseException:
            prober.cache.give_back(taken)
            raise

    def lists_in(self, number: int) -> Rows:
        """The lists of a segment that any query probes, rising."""
        if number not in self.lists:
            self.lists[number] = self.selection.probed.lists_of(number)
        return self.lists[number]

    def ask_for(self, numbers: Iterable[int]) -> None:
        """Ask the system for the lists that are not in the cache, of all segments before the first is waited for."""
        for number in numbers:
            segment = self.selection.filtered.candidates[number].segment
            if self.prober.by_list(segment):
                with suppress(*FAULTS):  # Found again, and said, when they are read.
                    segment.list_file.ask_for(self.prober.absent(segment, self.lists_in(number)))

    def _together(self, numbers: Sequence[int]) -> None:
        """In one call of FAISS: first what is in memory, then the others, as many at a time as the cache has room for."""
        cache, candidates = self.prober.cache, self.selection.filtered.candidates
        keys = [candidates[number].segment.row.segment_id for number in numbers]
        there = cache.take_held(keys, _sound)
        waiting = _Waiting(self)
        try:
            for number, key in zip(numbers, keys, strict=True):
                if key in there:
                    waiting.add(Held(number, [(key, there[key])], there[key]))  # type: ignore[arg-type]
            others = [number for number, key in zip(numbers, keys, strict=True) if key not in there]
            self.ask_for(others)
            for number in others:
                if self.answers.place_of(number) not in self.answers.errors:
                    with self.answers.timed(number):
                        try:
                            waiting.make_room(number)
                            waiting.add(self.hold(number))
                        except FAULTS as fault:
                            self.answers.fail(number, fault)
            waiting.search()
        finally:
            waiting.let_go()

    def nbytes_of(self, number: int) -> int:
        """Bytes that holding the lists of a segment takes, about."""
        segment = self.selection.filtered.candidates[number].segment
        if self.prober.by_list(segment):
            return segment.list_file.nbytes(self.lists_in(number))
        return segment.load_nbytes(self.prober.residency)

    def lists_of(self, numbers: Sequence[int], parts: Sequence[Lists]) -> None:
        """Search lists of one kind that are held, of these candidates."""
        answers, probed, m = self.answers, self.selection.probed, len(self.queries)
        try:
            # What was put together for this search alone is not worth remembering.
            stack = ListStack(parts) if self.prober.residency == "lists" else self.prober.stacks.of(parts)
            started = time.perf_counter()
            first = np.full(len(self.selection.filtered.candidates), -1, np.int64)
            places = stack.places(parts)
            first[numbers] = stack.starts[places]
            of_list = first[probed.segment]
            some = slice(None) if of_list.min() >= 0 else of_list >= 0
            segment, query, lists = probed.segment[some], probed.query[some], probed.lists[some] + of_list[some]
            rows = stack.sizes[lists]
            scanned = np.bincount(segment * m + query, rows, answers.scanned.size).astype(np.int64)
            order = slice(None) if m == 1 else np.argsort(query, kind="stable")
            which, padded = padded_lists(query[order], lists[order])
            k = self.depth.exact if parts[0].exact else self.depth.coded
            most = int(rows.sum() if m == 1 else np.bincount(query, rows).max())
            found = stack.search(self.queries[which], padded, max(1, min(k, most)))
            candidate_of = np.full(len(stack.starts) + 1, -1, np.int64)
            candidate_of[places] = numbers
            answers.found.append(Found(which, candidate_of[found.parts], found.rows, found.scores, parts[0].exact))
            answers.scanned += scanned.reshape(answers.scanned.shape)
            share = np.bincount(self.selection.filtered.shard_of[segment], rows, len(answers.ms))
            answers.ms += share * ((time.perf_counter() - started) * 1e3 / max(1.0, share.sum()))
        except FAULTS:  # One by one it is found out whose fault that is.
            for number, part in zip(numbers, parts, strict=True):
                try:
                    self._search_lists(number, self.selection.probe(number), part)
                except FAULTS as fault:
                    answers.fail(number, fault)


def _sound(lists: Lists | StoredList) -> bool:
    return lists.sound


@dataclass(frozen=True, slots=True)
class Held:
    """Lists of a segment that are held in the cache."""

    number: int
    """Of the candidate."""
    taken: Sequence[tuple[Hashable, Lists | StoredList]]
    """What is to be given back."""
    lists: Lists

    @property
    def nbytes(self) -> int:
        return sum([value.nbytes for _, value in self.taken])


class _Waiting:
    """Lists that are held in the cache, to be searched together."""

    def __init__(self, search: _Search) -> None:
        self._search = search
        self._held: list[Held] = []
        self._nbytes = 0

    def add(self, held: Held) -> None:
        """Take lists that are held from now on; those that are checked one by one are checked now."""
        self._held.append(held)
        self._nbytes += held.nbytes
        if held.lists.checked_one_by_one:
            try:
                held.lists.check(self._search.selection.probed.of_segment(held.number)[1])
            except FAULTS as fault:
                self._search.answers.fail(held.number, fault)

    def make_room(self, number: int) -> None:
        """Search what waits, and let go of it, if the cache has no room for this candidate beside it."""
        if self._held and self._nbytes + self._search.nbytes_of(number) > self._search.prober.cache.budget:
            self.search()
            self.let_go()

    def search(self) -> None:
        """Search what waits, each kind of lists by itself."""
        kinds: dict[tuple[object, ...], list[Held]] = {}
        answers = self._search.answers
        for held in self._held:
            if not answers.errors or answers.place_of(held.number) not in answers.errors:
                kinds.setdefault(held.lists.kind, []).append(held)
        for some in kinds.values():
            self._search.lists_of([held.number for held in some], [held.lists for held in some])

    def let_go(self) -> None:
        """Let the cache drop what waited."""
        self._search.prober.cache.give_back([taken for held in self._held for taken in held.taken])
        self._held, self._nbytes = [], 0
