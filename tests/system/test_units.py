"""Sizes and counts, as people write and read them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.system.units import (
    parse_bytes,
    parse_count,
    parse_moment,
    parse_path,
    parse_seconds,
    parse_share,
    readable_bytes,
    readable_recall,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8G", 8 * 10**9),
        (" 8gb ", 8 * 10**9),
        ("1.5 GB", 1_500_000_000),
        ("512MB", 512 * 10**6),
        ("64k", 64_000),
        ("2TB", 2 * 10**12),
        ("8 GiB", 8 << 30),
        ("512mi", 512 << 20),
        ("100 B", 100),
        ("1000000", 1_000_000),
        ("0", 0),
    ],
)
def test_sizes_are_read_as_people_write_them(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "GB", "eight GB", "-8GB", "8 XB", "8GBs", "8 iB", "1e9", "8,5GB", ".5GB", "8G B", "9" * 400]
)
def test_what_is_not_a_size_is_refused_by_name(text):
    with pytest.raises(ValueError, match="is not a size") as caught:
        parse_bytes(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("nbytes", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (512 * 10**6, "512 MB"),
        (10**9 - 1, "1 GB"),
        (2_588_396_592, "2.6 GB"),
        (3 * 10**15, "3000 TB"),
    ],
)
def test_bytes_are_written_with_two_or_three_digits_and_a_unit(nbytes, expected):
    assert readable_bytes(nbytes) == expected


@given(st.integers(1, 10**15))
def test_a_written_size_reads_back_within_a_twentieth_and_rounded_up_never_less(nbytes):
    assert parse_bytes(readable_bytes(nbytes)) == pytest.approx(nbytes, rel=0.05)
    assert parse_bytes(readable_bytes(nbytes, up=True)) >= nbytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("3,000,000", 3_000_000),
        ("3 000 000", 3_000_000),
        ("3 M", 3_000_000),
        (" 3 million ", 3_000_000),
        ("1.5M", 1_500_000),
        ("250k", 250_000),
        ("7", 7),
        ("1.000001 M", 1_000_001),
    ],
)
def test_counts_are_read_as_people_write_them(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text", ["", "many", "-3", "3,00", "1,2345", "3 G", "3 killion", "3 illion", "0.5", "1.0000001 M", "3 MB", "1e6"]
)
def test_what_is_not_a_count_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match="write it as 3,000,000 or 3 M"):
        parse_count(text)


def test_a_size_without_its_unit_is_refused_unless_it_can_be_meant_in_bytes():
    assert parse_bytes("536870912") == 536_870_912
    assert parse_bytes("100 B") == 100
    with pytest.raises(ValueError, match="'8' has no unit; write 8GB, 8MB or 8B"):
        parse_bytes("8")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("-3", -3),
        ("1:30", 90),
        ("75:00.5", 4500.5),
        ("00:21:07", 1267),
        ("90 s", 90),
        ("2 min", 120),
        ("1h 5m 3s", 3903),
    ],
)
def test_places_in_a_video_are_read_as_people_write_them(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "noon", "1:75", "1:2:3:4", "nan", "inf", "1.2.3 s", "5 dogs"])
def test_what_is_no_place_in_a_video_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match="write seconds, such as 90"):
        parse_seconds(text)


@pytest.mark.parametrize(("text", "share"), [("0.95", 0.95), (".95", 0.95), ("95%", 0.95), (" 5 % ", 0.05), ("1", 1)])
def test_shares_are_read_as_people_write_them(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01", datetime(2024, 5, 1)),
        ("2024/5/1 7:05", datetime(2024, 5, 1, 7, 5)),
        ("2024.05.01 18:30:10", datetime(2024, 5, 1, 18, 30, 10)),
        ("2024-05-01T18:30", datetime(2024, 5, 1, 18, 30)),
        ("20240501T183000", datetime(2024, 5, 1, 18, 30)),
    ],
)
def test_dates_and_times_are_read_as_people_write_them(text, moment):
    assert parse_moment(text) == moment


def test_yesterday_began_a_day_before_today():
    assert timedelta(hours=23) <= parse_moment("today") - parse_moment("Yesterday") <= timedelta(hours=25)


@pytest.mark.parametrize("text", ["", "soon", "2024-13-01", "1.5.2024", "2024-05-01T18:30+07:00"])
def test_what_is_no_date_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match=r"year first|time zone"):
        parse_moment(text)


def test_a_path_may_be_written_as_an_address():
    assert parse_path("file:///a/b%20c.mp4") == parse_path("file:/a/b c.mp4") == Path("/a/b c.mp4")
    assert parse_path("a/file:b") == Path("a/file:b")
    with pytest.raises(ValueError, match="on another computer"):
        parse_path("file://server/share/a.mp4")


@pytest.mark.parametrize(
    ("recall", "text"), [(0.95, "0.95"), (0.9641, "0.964"), (1.0, "1"), (0.99999, "0.999"), (0.0, "0"), (0.8, "0.8")]
)
def test_a_recall_has_one_form_and_is_one_only_if_nothing_is_missing(recall, text):
    assert readable_recall(recall) == text
