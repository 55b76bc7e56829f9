"""One shard beside the map: what it is about, frames of it, where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from ui.search import query
from ui.shared import address, frames
from ui.shared.words import badge_text, clock, count, label, listed, nbytes, plain, share

if TYPE_CHECKING:
    from engine.collection import Collection
    from engine.reports import ShardContents
    from engine.search import Preview


def picked(preview: Preview) -> int | None:
    """The shard that the address bar names; a warning if there is no such shard."""
    number = address.value("shard")
    if not number:
        return None
    if number.isdecimal() and len(number) < 9 and int(number) < len(preview.shards):
        return int(number)
    st.warning(f"The link asks for shard “{plain(number[:20])}”; the collection has 0 to {len(preview.shards) - 1}.")
    close()
    return None


def close() -> None:
    """Close the shard; for callbacks."""
    address.write(shard="")


def invite(view: str) -> None:
    """Say what will stand beside the map: a column that is always there, so that nothing moves when a shard is opened."""
    if view == "Map":
        with st.container(key="inside_empty", border=True):
            st.caption("Click a shard of the map to see what is in it. It opens here.")


def show(collection: Collection, shard: int) -> None:
    """Draw what is in one shard."""
    contents = collection.shard(shard)
    with st.container(key="inside", gap="small", border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Shard {shard}** · {plain(contents.stats.summary)}")
            st.button("Close", icon=":material/close:", type="tertiary", key="close_shard", on_click=close)
        st.caption(plain(_facts(contents)))
        if contents.samples:
            frames.grid(
                [frames.of_frame(collection, frame) for frame in contents.samples],
                key="samples_inside",
                label=f"Frames of shard {shard}, from different cells",
                on_pick=query.open_hit,
                picked=address.value("hit"),
                size="small",
            )
        st.caption(plain(_videos(contents)))
        tags = sorted(contents.stats.tags.items(), key=lambda item: -item[1])[:8]
        if tags:
            with st.container(horizontal=True, gap="small"):
                for tag, n in tags:
                    st.badge(badge_text(f"{label(tag)} {share(n, contents.stats.n_frames)}"), color="gray")


def _facts(contents: ShardContents) -> str:
    stats = contents.stats
    facts = (
        f"{count(stats.n_frames, 'frame')} of {count(len(contents.videos), 'video')} in {count(stats.cells, 'cell')} "
        f"(largest {contents.largest_cell:,}, mean {contents.mean_cell:.0f}), {nbytes(stats.nbytes)} on disk, "
        f"{nbytes(stats.cached_nbytes)} in memory."
    )
    if stats.captured:
        first, last = stats.captured
        facts += f" Recorded {first:%d %b %Y, %H:%M} to {last:%d %b %Y, %H:%M}."
    return facts + (f" Time in the videos: {' to '.join(map(clock, stats.seconds))}." if stats.seconds else "")


def _videos(contents: ShardContents, most: int = 5) -> str:
    names = [f"{title or video_id} ({n:,})" for video_id, title, n in contents.videos[:most]]
    more = len(contents.videos) - most
    return (
        f"Frames from {listed([*names, count(more, 'other video')] if more > 0 else names)}." if names else "No frames."
    )
