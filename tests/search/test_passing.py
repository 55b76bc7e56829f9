"""What passes a filter, in the order of time, without a query."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from engine.errors import NotFound
from engine.types import Filter
from testing.worlds import VIDEOS


@pytest.mark.parametrize(
    "where", [Filter(tags_all=("object:cat",)), Filter(seconds=(4.0, 40.0)), Filter()], ids=range(3)
)
def test_frames_that_pass_come_by_recording_time_and_then_by_time_in_the_video(town, flat, where):
    passes = flat.passes(where)
    recorded = {video.video_id: video.captured_at or datetime.max for video, _ in VIDEOS}
    order = [video.video_id for video, _ in VIDEOS]
    wanted = sorted(
        flat.frame_id[passes].tolist(),
        key=lambda i: (recorded[flat.video[i]], order.index(flat.video[i]), flat.seconds[i]),
    )
    everything = town.browse(where, 0, 10**6)
    assert [frame.frame_id for frame in everything.frames] == wanted
    assert everything.n_passing == np.count_nonzero(passes) > 20
    page = town.browse(where, 7, 5)
    assert page.frames == everything.frames[7:12]
    assert page.n_passing == everything.n_passing
    assert town.browse(where, 10**6, 5).frames == ()


def test_a_video_that_is_not_there_is_said(town):
    with pytest.raises(NotFound, match="no video 'v99'"):
        town.browse(Filter(videos=("v99",)))
