"""How the cells of a generation are ranked, and where they lie among its segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.errors import CorruptData
from engine.routing import RoutingModel, Scorer, centroid_scorer, log_counts, spread_scorer
from engine.storage.views import SegmentView
from engine.types import QueryKind, RouterName
from engine.vectors import Cells, Floats, Metric, Rows


class CellMap:
    """Where the cells lie among the lists of some segments, as far as they hold rows that count."""

    def __init__(self, n_cells: int, segments: Sequence[tuple[NDArray[np.int32], Rows]]) -> None:
        """Take, per segment, the cells that occur and how many rows count in each."""
        self.rows = np.zeros(n_cells, np.int64)
        """(n_cells,) rows over all segments."""
        # Of many segments this is large, and few have more lists than two bytes count.
        most = max((len(cells) for cells, _ in segments), default=0)
        small = most <= np.iinfo(np.int16).max
        self.places = np.full((len(segments), n_cells + 1), -1, np.int16 if small else np.int32)
        """(segments, n_cells + 1) position of a cell among a segment's lists, -1 where it has no rows; the last column is -1."""
        self.cells = []
        """Per segment, the cells with rows."""
        for i, (cells, rows) in enumerate(segments):
            places = np.flatnonzero(rows)
            self.places[i, cells[places]] = places
            self.rows[cells] += rows
            self.cells.append(cells[places])

    @cached_property
    def log_rows(self) -> Floats:
        """(n_cells,) logarithm of the rows, 0 for none."""
        return log_counts(self.rows)

    @cached_property
    def all_cells(self) -> NDArray[np.int32]:
        """The cells with rows of all segments, one segment after another."""
        return np.concatenate(self.cells)

    @cached_property
    def firsts(self) -> Rows:
        """(segments,) where each segment's cells begin among all."""
        ends = np.cumsum([len(cells) for cells in self.cells])
        return np.concatenate([[0], ends[:-1]])


@dataclass(frozen=True, eq=False)
class Routing:
    """What a routed search needs to know before it opens a shard. `replace` gives what would be with other cells or rows."""

    cells: Cells
    model: RoutingModel | None
    """None where there were no queries to fit one on."""
    metric: Metric
    rows: Rows
    """(n_cells,) live rows over the segments that can be read; the search itself names those that cannot."""
    views: tuple[SegmentView, ...] = ()
    """The segments with live rows, shard by shard; none where it only serves to plan."""

    @classmethod
    def of(cls, cells: Cells, model: RoutingModel | None, metric: Metric, views: Iterable[SegmentView]) -> Routing:
        """For the live rows of some segments."""
        live = tuple(view for view in views if view.n_live)
        rows = np.zeros(len(cells), np.int64)
        for view in live:
            with suppress(CorruptData):
                rows[view.segment.cells] += view.cell_rows
        return cls(cells, model, metric, rows, live)

    @cached_property
    def cell_map(self) -> CellMap:
        """Where the cells lie among the segments."""
        return CellMap(len(self.cells), [(view.segment.cells, view.cell_rows) for view in self.views])

    def scorers(self, kind: QueryKind) -> dict[RouterName, Scorer]:
        """The ways in which cells can be ranked for a kind of query, the best last."""
        return self._text_scorers if kind == "text" else self._image_scorers

    def usual_router(self, kind: QueryKind) -> RouterName:
        """The router that serves a kind of query best."""
        return list(self.scorers(kind))[-1]

    def read_all(self) -> None:
        """Read what is otherwise read when it is first asked for, so that no file is needed to plan and to route."""
        _ = self._text_scorers, self._image_scorers

    @cached_property
    def _text_scorers(self) -> dict[RouterName, Scorer]:
        return self._with_learned("text")

    @cached_property
    def _image_scorers(self) -> dict[RouterName, Scorer]:
        return self._with_learned("image")

    def _with_learned(self, kind: QueryKind) -> dict[RouterName, Scorer]:
        learned = None if self.model is None else self.model.scorer(self.cells, kind)
        return self._untrained if learned is None else {**self._untrained, "learned": learned}

    @cached_property
    def _untrained(self) -> dict[RouterName, Scorer]:
        """Those that no queries were needed for."""
        scorers: dict[RouterName, Scorer] = {"centroid": centroid_scorer(self.cells, self.metric)}
        if self.metric == "ip":
            scorers["spread"] = spread_scorer(self.cells, self.rows)
        return scorers
