"""Inverted lists that lie as FAISS writes them, each its codes and then its ids: in memory, in a mapped file, or scattered.

FAISS's usual lists are two vectors each, allocated one by one, which takes 160 bytes and more a list; those of
`OnDiskInvertedLists` are a length and a place in one stretch of memory, which need not be that of a file.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.vectors.arrays import Rows


def fill(index: faiss.IndexIVF, sizes: Rows, content: NDArray[np.uint8]) -> None:
    """Give an empty index lists of so many rows, which lie one after another in memory."""
    packed = _packed(index, sizes, _one_after_another(index, sizes, 0))
    packed.ptr = faiss.swig_ptr(content)
    weakref.finalize(index, _let_go, packed, content)


def map_file(index: faiss.IndexIVF, sizes: Rows, path: Path, start: int) -> None:
    """Give an empty index lists of so many rows, which lie in a file from a byte on."""
    packed = _packed(index, sizes, _one_after_another(index, sizes, start))
    packed.filename, packed.totsize = str(path), path.stat().st_size
    packed.do_mmap()
    weakref.finalize(index, _let_go, packed, None)


def scatter(index: faiss.IndexIVF, sizes: Rows, lists: Rows, contents: Sequence[NDArray[np.uint8]]) -> None:
    """Give an empty index lists of so many rows, of which these have some, anywhere in memory."""
    # FAISS adds to the first byte where the lists begin: an address less another, which may be lower, comes out right again.
    at = np.array([content.__array_interface__["data"][0] for content in contents], np.uint64)
    first = np.zeros(len(sizes), np.uint64)
    first[lists] = at - at[:1]
    packed = _packed(index, sizes, first)
    if contents:
        packed.ptr = faiss.swig_ptr(contents[0])
    weakref.finalize(index, _let_go, packed, contents)


def _one_after_another(index: faiss.IndexIVF, sizes: Rows, start: int) -> Rows:
    """(n_lists,) the first byte of each list."""
    first: Rows = start + (np.cumsum(sizes) - sizes) * (index.code_size + 8)
    return first


def _packed(index: faiss.IndexIVF, sizes: Rows, first: NDArray[np.integer]) -> faiss.OnDiskInvertedLists:
    """Lists of so many rows, whose first bytes are given, for an empty index."""
    packed = faiss.OnDiskInvertedLists()
    packed.nlist, packed.code_size, packed.read_only = len(sizes), index.code_size, True
    table = np.empty((len(sizes), 3), np.uint64)  # Rows, rows that there is room for, first byte.
    table[:, 0] = table[:, 1] = sizes
    table[:, 2] = first
    packed.lists.resize(len(sizes))
    faiss.memcpy(packed.lists.data(), faiss.swig_ptr(table.reshape(-1).view(np.uint8)), table.nbytes)
    index.replace_invlists(packed, False)
    index.ntotal = int(sizes.sum())
    return packed


def _let_go(packed: faiss.OnDiskInvertedLists, content: object) -> None:
    """What an index pointed to may go with it. Memory that FAISS did not map itself it must not unmap."""
    if content is not None:
        packed.ptr = None
