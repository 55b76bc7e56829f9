"""A quick part of what `python -m benchmarks.attack` does in full, and that it would notice."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from unittest import mock

import pytest

from engine.errors import EngineError
from engine.storage.segment import Segment
from engine.vectors import one_thread
from testing import crowds, faults, intruders, scarcity, warm
from testing.damages import KINDS
from testing.faults import Tally


@pytest.fixture(scope="module")
def world():
    """A small collection that every test copies, and its model."""
    with faults.quick_folder() as folder, faults.small(), one_thread():
        yield folder / "base", faults.make_world(folder / "base")


@pytest.fixture
def work():
    with faults.quick_folder() as folder, mock.patch.object(os, "fsync"):
        yield folder


def sound(tally: Tally) -> Tally:
    assert not tally.lost, "\n".join(tally.notes)
    assert tally.tried
    return tally


def test_damage_under_a_process_is_refused_or_answered_rightly_and_never_written_anew(world, work):
    tally = sound(warm.harm(*world, work, 2 * len(KINDS), seed=3))
    assert tally.by_check


def test_what_is_damaged_at_rest_is_not_written_anew_with_right_checksums(world, work):
    assert sound(warm.harm(*world, work, len(KINDS), seed=5, is_warm=False)).by_check


def test_who_is_killed_while_recovering_leaves_it_to_the_next(world, work):
    tally = sound(crowds.kill(*world, work, 4, pause=0.1, recoveries=2))
    assert tally.old + tally.new == tally.tried == 4


def test_two_builds_at_once_make_one(world, work):
    sound(scarcity.two_builds(*world, work, 1))


def test_changes_hold_although_the_clock_goes_back(world, work):
    assert sound(scarcity.clock_back(*world, work, 3)).new == 3


@pytest.mark.parametrize("limit", ["6 open files", "1 threads"])
def test_too_little_of_something_is_told_as_that_and_costs_nothing(world, work, limit):
    sound(scarcity.scarce(*world, work, (limit,)))


CHOSEN = (
    "video: 12,000 x 12,000 pixels, gif",
    "picture: a PostScript named .jpg",
    "table: 20,000 tags on one frame",
    "table: CSV of a secret",
    "array as queries: a device without end",
    "archive: objects that are a pipe",
    "collection: segments is a link to a folder elsewhere",
    "collection: segments/*/frames.arrow is a pipe",
    "collection: a journal that names a private file as its own",
    "collection: catalog: a view without end in place of the counters",
    "question: a text of 501 characters",
)


def case(name: str) -> intruders.Intrusion:
    (found,) = (each for each in intruders.INTRUSIONS if each.name == name)
    return found


@pytest.mark.parametrize("name", CHOSEN)
def test_what_was_made_to_hurt_does_not(world, work, name):
    sound(intruders.intrusions(world[0], work, [case(name)]))


def test_every_intrusion_has_a_name_of_its_own():
    names = [each.name for each in intruders.INTRUSIONS]
    assert len(names) == len(set(names)) > 200


# That a campaign notices what goes wrong


def _believing(segment: Segment) -> int:
    segment._verified = True
    return 0


def _serve_believing(pipe, right, folder: Path) -> None:
    with (
        mock.patch.object(Segment, "verify", _believing),
        mock.patch.object(Segment, "stored", lambda self, rows, columns=None: self.vectors[rows]),
        mock.patch.object(Segment, "stored_in_memory", lambda self, rows, columns: self.vectors[rows]),
    ):
        warm.serve(pipe, right, folder)


def test_a_process_that_believes_its_files_is_found_out(world, work):
    kind, way = ("vectors.npy",), ("half of it overwritten",)
    tally = warm.harm(*world, work, 1, seed=1, kinds=kind, ways=way, server=_serve_believing)
    assert tally.lost, "rows that were overwritten went into answers, and nobody noticed"


def _raises(place: intruders.Place) -> intruders.Ask:
    return lambda: [][0]


def _mumbles(place: intruders.Place) -> intruders.Ask:
    return lambda: int("abc")


def _dies(place: intruders.Place) -> intruders.Ask:
    return lambda: os.kill(os.getpid(), 11)


def _swells(place: intruders.Place) -> intruders.Ask:
    return lambda: [bytearray(b"x") * (1 << 28) for _ in range(8)]


def _hangs(place: intruders.Place) -> intruders.Ask:
    return lambda: threading.Event().wait()


def _falls_for_it(place: intruders.Place) -> intruders.Ask:
    return lambda: None


def _reaches_out(place: intruders.Place) -> intruders.Ask:
    return lambda: (place.outside / "diary.txt").unlink()


def _changes_and_refuses(place: intruders.Place) -> intruders.Ask:
    def ask() -> None:
        next(place.collection.glob("segments/*/vectors.npy")).unlink()
        raise EngineError("It is not to be.")

    return ask


def _quotes(place: intruders.Place) -> intruders.Ask:
    def ask() -> None:
        raise EngineError(f"It says {(place.outside / 'diary.txt').read_text()}.")

    return ask


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_raises, "IndexError"),
        (_mumbles, "not one sentence"),
        (_dies, "exit code -11"),
        (_swells, "took more than"),
        (_hangs, "no end within"),
        (_falls_for_it, "nothing were amiss"),
        (_reaches_out, "outside was changed"),
        (_changes_and_refuses, "the collection was changed"),
        (_quotes, "quotes what is private"),
    ],
)
def test_whoever_falls_for_an_intrusion_is_found_out(world, work, make, said):
    hurt = intruders.Intrusion("hurt", make, seconds=1.0 if make is _hangs else 20.0, nbytes=100 << 20)
    tally = intruders.intrusions(world[0], work, [hurt])
    assert tally.lost == 1
    assert said in tally.notes[0]
