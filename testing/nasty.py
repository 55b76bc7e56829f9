"""A collection whose ids, titles and tags are written by somebody who wants the page to do something."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine import Collection
from testing.worlds import DIM, make_video

NASTY = "evil [x](www.evil.example) :smile:"
"""The name of its folder."""
SNIPPETS = (
    "[click](http://evil.example)",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "$x^2$ and $$y$$",
    ":smile: and :material/home:",
    ":red[text] :streamlit:",
    "**b** _i_ ~~s~~ `c`",
    "https://evil.example/a",
    "www.evil.example",
    "me@evil.example",
    "![pixel](http://evil.example/p.png)",
    "# head",
    "1. one",
    "> said -> so",
    "&lt;b&gt; &copy;",
    "=1+1",
    "<a href='http://evil.example'>a</a>",
    "a [^1] note",
)


def nasty(path: Path) -> Path:
    """Make it: a video per snippet, which is its id, its title and a tag of its frames."""
    with Collection.create(path, dim=DIM, n_shards=3, route="routed") as collection:
        for number, snippet in enumerate(SNIPPETS):
            video, frames = make_video(number, 8, video_id=f"{number} {snippet}", title=snippet, source=f"/x/{snippet}")
            tags = tuple(
                tuple(f"{kind}:{snippet}" for kind in ("object", "scene", "weather")) for _ in range(len(frames))
            )
            collection.add(video, type(frames)(frames.vectors, frames.frame_index, frames.seconds, tags=tags))
        collection.use_queries(np.random.default_rng(0).normal(size=(80, DIM)).astype(np.float32))
        collection.build()
    return path
