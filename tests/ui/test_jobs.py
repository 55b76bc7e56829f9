"""Long work in threads: how far it is, how it ends, whose turn it is."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from engine.errors import Stopped
from ui.shared import jobs
from ui.shared.jobs import Board, Report


@pytest.fixture
def board() -> Board:
    return Board()


def held(gate: threading.Event, order: list[str] | None = None, name: str = "") -> Any:
    """Work that goes on until a gate opens."""

    def work(report: Report) -> str:
        if order is not None:
            order.append(name)
        while not gate.wait(0.01):
            report("waiting", 0.5, 1.0)
        return name

    return work


def test_a_job_gives_what_its_work_returned_and_says_how_far_it_is(board: Board) -> None:
    gate = threading.Event()
    job = board.start("a", held(gate, name="done"))
    assert job is not None
    while job.note != "Waiting":
        job.wait(0.01)
    assert job.running
    assert job.fraction == 0.5
    with pytest.raises(RuntimeError, match="still running"):
        job.value()
    gate.set()
    assert job.wait(5)
    assert job.value() == "done"
    assert job.ended is not None


def test_a_job_that_fails_raises_its_exception_to_whoever_asks(board: Board) -> None:
    job = board.start("a", lambda report: 1 // 0)
    assert job is not None
    assert job.wait(5)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            job.value()


def test_a_name_has_one_job_at_a_time(board: Board) -> None:
    gate = threading.Event()
    job = board.start("a", held(gate))
    assert board.start("a", held(gate)) is None
    assert board.once("a", held(gate)) is job
    board.forget("a")
    assert board.get("a") is job
    gate.set()
    assert job is not None
    job.wait(5)
    assert board.once("a", held(gate)) is job
    board.forget("a")
    assert board.get("a") is None


def test_a_job_that_is_asked_to_end_ends_at_its_next_report(board: Board) -> None:
    job = board.start("a", held(threading.Event()))
    assert job is not None
    job.stop()
    assert job.wait(5)
    with pytest.raises(Stopped):
        job.value()


def test_what_else_is_to_be_called_on_a_stop_is_called_once_also_when_it_comes_late(board: Board) -> None:
    called = []
    gate = threading.Event()

    def work(report: Report) -> None:
        report.on_stop(lambda: called.append("early"))
        gate.wait(5)
        report.on_stop(lambda: called.append("late"))

    job = board.start("a", work)
    assert job is not None
    while not job._callbacks:
        job.wait(0.01)
    job.stop()
    assert called == ["early"]
    gate.set()
    job.wait(5)
    assert called == ["early", "late"]


def test_a_lane_runs_its_jobs_one_at_a_time_in_the_order_in_which_they_came(board: Board) -> None:
    gates = [threading.Event() for _ in range(3)]
    order: list[str] = []
    jobs = [board.start(f"job {i}", held(gates[i], order, str(i)), lane="measure") for i in range(3)]
    other = board.start("elsewhere", held(gates[0], order, "elsewhere"))
    while len(order) < 2:
        threading.Event().wait(0.01)
    assert [job.place for job in jobs if job] == [0, 1, 2]
    assert sorted(order) == ["0", "elsewhere"]
    for i, job in enumerate(jobs):
        assert job is not None
        gates[i].set()
        assert job.wait(5)
        assert job.place == 0
    assert [name for name in order if name != "elsewhere"] == ["0", "1", "2"]
    assert other is not None


def test_a_job_that_waits_for_its_turn_can_be_stopped_and_never_begins(board: Board) -> None:
    gate, order = threading.Event(), []  # type: ignore[var-annotated]
    first = board.start("first", held(gate, order, "first"), lane="measure")
    second = board.start("second", held(gate, order, "second"), lane="measure")
    third = board.start("third", held(gate, order, "third"), lane="measure")
    assert first
    assert second
    assert third
    second.stop()
    assert second.wait(5)
    with pytest.raises(Stopped):
        second.value()
    assert third.place == 1
    gate.set()
    assert third.wait(5)
    assert order == ["first", "third"]


def test_when_a_visitor_leaves_what_was_his_is_stopped_and_forgotten(board: Board) -> None:
    mine, yours = (board.start(f"{who} compare", held(threading.Event())) for who in ("me", "you"))
    assert mine
    assert yours
    board.leave("me ")
    assert mine.wait(5)
    assert board.get("me compare") is None
    assert yours.running
    yours.stop()


def test_jobs_that_ended_long_ago_are_let_go_but_not_what_opened_a_collection(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("open town", "compare"):
        job = board.start(name, lambda report: None)
        assert job is not None
        job.wait(5)
    monkeypatch.setattr("ui.shared.jobs._KEPT", -1.0)
    last = board.start("last", lambda report: None)
    assert last is not None
    assert board.get("compare") is None
    assert board.get("open town") is not None


def test_a_watched_job_ends_when_nobody_looks_and_others_do_not(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    watched, other = board.start("a", held(gate), watched=True), board.start("b", held(gate))
    assert watched is not None
    assert other is not None
    assert not watched.wait(0.1)
    monkeypatch.setattr(jobs, "UNSEEN", -1.0)
    assert watched.wait(10)
    assert str(watched.error) == "Nobody looked at it any more, so it was stopped."
    assert other.running
    gate.set()
    assert other.wait(10)


def test_whoever_waits_knows_the_job_that_works(board: Board) -> None:
    gate = threading.Event()
    first, second = board.start("a", held(gate), "lane"), board.start("b", held(gate), "lane")
    assert first is not None
    assert second is not None
    assert (first.first, second.first) == (first, first)
    first.stop()
    assert first.wait(10)
    assert second.first is second
    gate.set()
    assert second.wait(10)
