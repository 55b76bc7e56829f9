"""Byte pair encoding of one word, in little more than linear time.

The tokenizer of CLIP looks at the whole word again for each merge, so that a pasted word of 10,000 letters takes seconds, and it
remembers every word that it ever saw. The merges here are the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any

_WORDS_KEPT = 16_384


def merge_pairs(symbols: Sequence[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Join neighbours until no pair of them has a rank: always the pair of the lowest rank, wherever it stands, from left to right.

    Parameters
    ----------
    symbols : the letters of a word
    ranks : which pairs are joined; each has a rank of its own
    """
    parts, n = list(symbols), len(symbols)
    gone = [False] * n
    before, after = list(range(-1, n - 1)), list(range(1, n + 1))
    heap = [(ranks[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in ranks]
    heapify(heap)
    while heap:
        rank = heap[0][0]
        places = []
        while heap and heap[0][0] == rank:
            places.append(heappop(heap)[1])
        joined = []
        for at in places:
            other = after[at]
            if gone[at] or other == n or ranks.get((parts[at], parts[other])) != rank:
                continue  # One of the two has been joined to another neighbour since.
            parts[at] += parts[other]
            gone[other] = True
            after[at] = after[other]
            if after[at] < n:
                before[after[at]] = at
            joined.append(at)
        for at in joined:
            for left, right in ((before[at], at), (at, after[at])):
                if left >= 0 and right < n and (parts[left], parts[right]) in ranks:
                    heappush(heap, (ranks[parts[left], parts[right]], left))
    return [part for part, is_gone in zip(parts, gone, strict=True) if not is_gone]


def with_fast_bpe(tokenizer: Any) -> Any:
    """The tokenizer; that of CLIP then merges long words in near linear time, and caches a bounded number of words."""
    if not all(hasattr(tokenizer, name) for name in ("bpe", "bpe_ranks", "cache")):
        return tokenizer
    ranks, special = tokenizer.bpe_ranks, frozenset(tokenizer.cache)

    @lru_cache(maxsize=_WORDS_KEPT)
    def bpe(word: str) -> str:
        return word if word in special else " ".join(merge_pairs([*word[:-1], word[-1] + "</w>"], ranks))

    tokenizer.bpe = bpe
    return tokenizer
