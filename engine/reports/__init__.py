"""What a collection holds and costs, for people."""

from engine.reports import capacity, memory
from engine.reports.capacity import ShardPlan, parse_bytes, parse_count, plan_shards, readable_bytes
from engine.reports.memory import MemoryAccount, account, open_nbytes
from engine.reports.modality_gap import Gap, measure_gap
from engine.reports.shards import Recording, ShardContents, TagShares, recordings, shard_contents, tag_shares
from engine.reports.statistics import collection_stats, video_info, video_infos

__all__ = [
    "Gap",
    "MemoryAccount",
    "Recording",
    "ShardContents",
    "ShardPlan",
    "TagShares",
    "account",
    "capacity",
    "collection_stats",
    "measure_gap",
    "memory",
    "open_nbytes",
    "parse_bytes",
    "parse_count",
    "plan_shards",
    "readable_bytes",
    "recordings",
    "shard_contents",
    "tag_shares",
    "video_info",
    "video_infos",
]
