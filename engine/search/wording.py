"""Every reason as a sentence or a clause."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.types import Reason, ReasonCode, ShardState


def sentence(reason: Reason) -> str:
    """A reason in words: a clause for one about a shard, a sentence for any other."""
    words = _WORDS[reason.code]
    return words.format(*reason.values) if isinstance(words, str) else words(*reason.values)


def search_sentence(reason: Reason, k: int, n_probe: int) -> str:
    """Why a search was done in its way, and whether it took more cells than planned."""
    words = sentence(reason)
    if reason.code in (ReasonCode.CELLS_ASKED, ReasonCode.DEFAULT_CELLS) and n_probe > float(reason.values[0]):
        return f"{words} It took {n_probe} to find {k} frames."
    return words


def shard_clause(state: ShardState, reason: Reason) -> str:
    """What a search did with a shard, and why."""
    return f"{_DONE.get(state, '')}{sentence(reason)}"


def preview_clause(state: ShardState, reason: Reason) -> str:
    """What a search would do with a shard, and why."""
    places = _PLACES if reason.code is ReasonCode.FRAMES_PASS else _TO_DO
    return f"{places.get(state, '')}{sentence(reason)}"


_DONE = {ShardState.OPENED: "read from disk; ", ShardState.CACHED: "in memory; "}
_TO_DO = {ShardState.OPENED: "to be read from disk; ", ShardState.CACHED: "in memory; "}
_PLACES = {ShardState.OPENED: "on disk; ", ShardState.CACHED: "in memory; "}


def _cells_here(cells: int, boost: float) -> str:
    boosted = f", ranked {boost:.3f} higher for what is preferred" if boost > 0 else ""
    return f"{cells} of the chosen cells {'is' if cells == 1 else 'are'} here{boosted}"


def _skipped(best: float, last: float | None = None) -> str:
    probed = "" if last is None else f", the last one probed {last:.2f}"
    return f"its best cell is predicted {best:.2f}{probed}"


def _little_expected(promise: float, least: float) -> str:
    return f"{promise:.1%} of the answer is expected here; shards are opened from {least:.1%} on"


def _capped(predicted: float, boost: float, max_shards: int) -> str:
    boosted = f" and {boost:.3f} for what is preferred" if boost > 0 else ""
    return f"predicted {predicted:.2f}{boosted}, below the best {max_shards} shards allowed"


def _cap_at_random(placement: str) -> str:
    return f"Under {placement.replace('_', '-')} placement a cap on shards leaves out frames at random."


_WORDS: Mapping[ReasonCode, str | Callable[..., str]] = {
    ReasonCode.EXACT_ASKED: "An exact search was asked for.",
    ReasonCode.NOT_BUILT: "The collection has not been built yet, so every frame is scanned.",
    ReasonCode.SET_TO_EXACT: "This collection is set to exact search.",
    ReasonCode.ALL_ASKED: "All of the answer was asked for, so every frame is scanned.",
    ReasonCode.CELLS_ASKED: "{} of {} cells were asked for.",
    ReasonCode.DEFAULT_CELLS: "The best {} of {} cells are probed by default.",
    ReasonCode.CALIBRATED: "Cells are probed until {:.3g} of the answer is expected, as calibrated: {} on average.",
    ReasonCode.FEWEST_SHARDS: "Shards are opened until {:.3g} of the answer is expected, as calibrated: {:.1f} on average.",
    ReasonCode.NOT_CALIBRATED: "Routing is not calibrated here, so every frame is scanned.",
    ReasonCode.NOT_MEASURED: "What finds {:.3g} of an answer was not measured here, so every frame is scanned.",
    ReasonCode.TOO_DEEP: "No routed search was measured to find {:.3g} of so deep an answer, so all is scanned.",
    ReasonCode.FEW_FRAMES: "Scanning {:,} frames takes no longer than routing, so every frame is scanned.",
    ReasonCode.FEW_PASS: "{:,} frames pass the filter: scoring just those is cheaper than routing.",
    ReasonCode.NO_QUERY: "Every shard may hold an answer.",
    ReasonCode.ONLY_FILTER: "Only the filter acts until there is a query.",
    ReasonCode.SCANNED: "every frame that passes is scanned",
    ReasonCode.FORCED: "opened whole, as asked",
    ReasonCode.CELLS_HERE: _cells_here,
    ReasonCode.FRAMES_PASS: "{:,} of its {:,} frames pass",
    ReasonCode.SKIPPED: _skipped,
    ReasonCode.NOT_SCORED: "its cells are in groups that were not looked into",
    ReasonCode.LITTLE_EXPECTED: _little_expected,
    ReasonCode.CAPPED: _capped,
    ReasonCode.EMPTY: "is empty",
    ReasonCode.DELETED: "all its frames were deleted",
    ReasonCode.RULED_OUT: "{}",
    ReasonCode.NONE_PASSES_ALL: "no frame passes all the filters together",
    ReasonCode.FAILED: "{}",
    ReasonCode.CAP_AT_RANDOM: _cap_at_random,
    ReasonCode.CAP_NOT_MEASURED: "What a cap on shards costs in recall is not known.",
    ReasonCode.OLD_CALIBRATION: "The router was calibrated on {:,} of {:,} frames; a build renews it.",
    ReasonCode.NONE_PASSES: "No frame passes the filter.",
    ReasonCode.SCANNED_ANYWAY: "Every frame that passes is scanned, so {} changes nothing.",
    ReasonCode.ALL_CELLS: "All {:,} cells are probed, so every frame is scanned, as by an exact search.",
    ReasonCode.CAP_TOO_HIGH: "A cap of {:,} leaves out no shard: the collection has {:,}.",
    ReasonCode.FEWER_THAN_K: "{:,} frames were asked for, and no more than {:,} can be found.",
    ReasonCode.NONE_PREFERRED: "No frame here has what is preferred, so preferring it changes nothing.",
    ReasonCode.NO_TIES: "What is preferred changed no order: it only decides between frames with the same score.",
    ReasonCode.ONE_SHARD: "There is one shard, so {:,} workers are no faster than one.",
}
