"""Searching the selected segments: the lists of all that are in memory in one call of FAISS, or shard by shard in threads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.errors import ShardFailed
from engine.search.failures import FAULTS, shard_failure
from engine.search.shard_selection import Probe, ShardSelection, distinct, padded_lists
from engine.storage import ByteLRU, Residency, Segment
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

    def all(self) -> None:
        """Those whose rows may all be returned together, the others one by one."""
        candidates, single = self.selection.filtered.candidates, list(self.selection.whole)
        together: list[int] = []
        for candidate in distinct(self.selection.probed.segment):
            (together if candidates[candidate].mask is None else single).append(candidate)
        self._together(together)
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
        lists = self._take(number)
        try:
            self._search_lists(number, probe, lists)
        finally:
            self.prober.cache.give_back([(segment.row.segment_id, lists)])

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

    def _take(self, number: int) -> Lists:
        """The lists of a segment, held in the cache until they are given back; if they are read from disk, that is noted."""
        segment, residency = self.selection.filtered.candidates[number].segment, self.prober.residency
        lists, was_there = self.prober.cache.take(segment.row.segment_id, lambda: segment.load(residency), _sound)
        if not was_there:
            self.answers.note_read(number, segment.load_nbytes(residency))
        return lists

    def _together(self, numbers: Sequence[int]) -> None:
        """In one call of FAISS: first what is in memory, then the others, as many at a time as the cache has room for."""
        cache, candidates = self.prober.cache, self.selection.filtered.candidates
        keys = [candidates[number].segment.row.segment_id for number in numbers]
        there = cache.take_held(keys, _sound)
        waiting = _Waiting(self)
        try:
            for number, key in zip(numbers, keys, strict=True):
                if key in there:
                    waiting.add(number, key, there[key])
            for number, key in zip(numbers, keys, strict=True):
                if key not in there and self.answers.place_of(number) not in self.answers.errors:
                    with self.answers.timed(number):
                        try:
                            waiting.make_room(candidates[number].segment)
                            waiting.add(number, key, self._take(number))
                        except FAULTS as fault:
                            self.answers.fail(number, fault)
            waiting.search()
        finally:
            waiting.let_go()

    def lists_of(self, numbers: Sequence[int], parts: Sequence[Lists]) -> None:
        """Search lists of one kind that are held, of these candidates."""
        answers, probed, m = self.answers, self.selection.probed, len(self.queries)
        try:
            stack = self.prober.stacks.of(parts)
            started = time.perf_counter()
            first = np.full(len(self.selection.filtered.candidates), -1, np.int64)
            places = stack.places(parts)
            first[numbers] = stack.starts[places]
            of_list = first[probed.segment]
            some = slice(None) if of_list.min() >= 0 else of_list >= 0
            segment, query, lists = probed.segment[some], probed.query[some], probed.lists[some] + of_list[some]
            scanned = np.bincount(segment * m + query, stack.sizes[lists], answers.scanned.size).astype(np.int64)
            order = slice(None) if m == 1 else np.argsort(query, kind="stable")
            which, padded = padded_lists(query[order], lists[order])
            k = self.depth.exact if parts[0].exact else self.depth.coded
            found = stack.search(self.queries[which], padded, k)
            candidate_of = np.full(len(stack.starts) + 1, -1, np.int64)
            candidate_of[places] = numbers
            answers.found.append(Found(which, candidate_of[found.parts], found.rows, found.scores, parts[0].exact))
            answers.scanned += scanned.reshape(answers.scanned.shape)
            share = np.bincount(self.selection.filtered.shard_of[segment], stack.sizes[lists], len(answers.ms))
            answers.ms += share * ((time.perf_counter() - started) * 1e3 / max(1.0, share.sum()))
        except FAULTS:  # One by one it is found out whose fault that is.
            for number, part in zip(numbers, parts, strict=True):
                try:
                    self._search_lists(number, self.selection.probe(number), part)
                except FAULTS as fault:
                    answers.fail(number, fault)


def _sound(lists: Lists) -> bool:
    return lists.sound


class _Waiting:
    """Lists that are held in the cache, to be searched together."""

    def __init__(self, search: _Search) -> None:
        self._search = search
        self._held: list[tuple[int, int, Lists]] = []
        """Candidate, key in the cache, and lists."""
        self._nbytes = 0

    def add(self, number: int, key: int, lists: Lists) -> None:
        """Take lists that are held from now on; those that are checked one by one are checked now."""
        self._held.append((number, key, lists))
        self._nbytes += lists.nbytes
        if lists.checked_one_by_one:
            try:
                lists.check(self._search.selection.probed.of_segment(number)[1])
            except FAULTS as fault:
                self._search.answers.fail(number, fault)

    def make_room(self, segment: Segment) -> None:
        """Search what waits, and let go of it, if the cache has no room for this segment beside it."""
        prober = self._search.prober
        if self._held and self._nbytes + segment.load_nbytes(prober.residency) > prober.cache.budget:
            self.search()
            self.let_go()

    def search(self) -> None:
        """Search what waits, each kind of lists by itself."""
        kinds: dict[tuple[object, ...], list[tuple[int, Lists]]] = {}
        answers = self._search.answers
        for number, _, lists in self._held:
            if not answers.errors or answers.place_of(number) not in answers.errors:
                kinds.setdefault(lists.kind, []).append((number, lists))
        for some in kinds.values():
            self._search.lists_of(*map(list, zip(*some, strict=True)))

    def let_go(self) -> None:
        """Let the cache drop what waited."""
        self._search.prober.cache.give_back([(key, lists) for _, key, lists in self._held])
        self._held, self._nbytes = [], 0
