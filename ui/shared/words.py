"""Numbers, times and names as text for people. Nothing here imports Streamlit."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from engine.system import readable_bytes, readable_milliseconds, visible

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&^])")


_FOUND_LATER = re.compile(
    r"""https?:(?=//)|www(?=\.)|@(?=[-\w])          # links and addresses
    |:(?!\d\d?:)(?=[-+\w]+:|material/)            # emoji and icons
    |(?<!\S)(?:<-|[-<>~])(?=[->=]+(?!\S))          # arrows and signs""",
    re.VERBOSE | re.IGNORECASE,
)
"""What Streamlit replaces in the finished text, where an escape does not help."""
_JOINER = "\N{WORD JOINER}"
"""An invisible character that keeps Streamlit from finding the above."""
_HARMLESS = re.compile(r"[^\W_]+(?:[ '’,/&()]{1,2}[^\W_]+|[-_][^\W_]+)*[)'’]?")


def plain(text: str) -> str:
    """Text of a user or a file, escaped so that Streamlit's Markdown shows every character as it is."""
    seen = visible(" ".join(text.split()))
    return _MARKDOWN.sub(r"\\\1", _FOUND_LATER.sub(rf"\g<0>{_JOINER}", seen))


def option(text: str) -> str:
    """`plain` for an option whose value also stands in links: usual words stay as they are."""
    return text if _HARMLESS.fullmatch(text) else plain(text)


def badge_text(text: str) -> str:
    """`plain` for the label of a badge, whose brackets Streamlit escapes itself."""
    return re.sub(r"\\([\[\]])", r"\1", plain(text))


def hypertext(text: str) -> str:
    """Text escaped for a figure of Plotly, which understands some HTML."""
    return html.escape(visible(text))


def clock(seconds: float, tenths: bool = False) -> str:
    """Time in a video: `0:07`, `12:05`, `1:02:03`; with tenths `0:07.5`."""
    whole = int(seconds + 1e-6)
    hours, minutes = whole // 3600, whole // 60 % 60
    time = f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
    return f"{time}.{int((seconds - whole) * 10 + 1e-5)}" if tenths else time


def duration(seconds: float) -> str:
    """A length of time, rounded: `45 s`, `18 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def when(moment: datetime) -> str:
    """Wall-clock time: `Mon 4 May 2026, 21:30:24`."""
    return f"{moment:%a} {moment.day} {moment:%b %Y, %H:%M:%S}"


def count(number: int, noun: str) -> str:
    """`1 frame`, `2,160 frames`, `3 queries`, `4 misses`."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun}"


nbytes = readable_bytes
milliseconds = readable_milliseconds


def nbytes_of(part: int, whole: int) -> str:
    """`69 of 612 kB`, `2.4 of 26 MB`: both in the unit of the whole."""
    return f"{readable_bytes(part, like=whole).split()[0]} of {readable_bytes(whole)}"


def share(part: float, whole: float) -> str:
    """`9%`; a share between 0 and 1% is `under 1%`, and `100%` means all."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 1:
        return "under 1%"
    return f"{min(percent, 99) if part < whole else percent:.0f}%"


def predicted(score: float | None) -> str:
    """A predicted score: `0.27`, `-0.05`, `1.30`; empty for none."""
    return "" if score is None else f"{round(score, 2) + 0.0:.2f}"


def listed(words: Iterable[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, end = list(words) or [""]
    return f"{', '.join(most)} {last} {end}" if most else end


def shard_names(shards: Sequence[int]) -> str:
    """`shard 3`, `shards 3 and 7`."""
    return f"shard{'' if len(shards) == 1 else 's'} {listed(map(str, shards))}"


def label(tag: str) -> str:
    """The part of a tag that people read: `living room` for `scene:living room`."""
    return tag.partition(":")[2] or tag
