"""What a collection holds and costs, for people."""

from engine.reports.capacity import ShardPlan, format_plan, plan_shards
from engine.reports.memory import MemoryAccount, budget_sentence, format_account, memory_account, open_nbytes
from engine.reports.modality_gap import ModalityGap, held_back_texts, measure_gap, stored_texts
from engine.reports.shards import Recording, ShardContents, TagShares, recordings, shard_contents, tag_shares
from engine.reports.statistics import codec_note, collection_stats, random_frame_ids, video_info, video_infos

__all__ = [
    "MemoryAccount",
    "ModalityGap",
    "Recording",
    "ShardContents",
    "ShardPlan",
    "TagShares",
    "budget_sentence",
    "codec_note",
    "collection_stats",
    "format_account",
    "format_plan",
    "held_back_texts",
    "measure_gap",
    "memory_account",
    "open_nbytes",
    "plan_shards",
    "random_frame_ids",
    "recordings",
    "shard_contents",
    "stored_texts",
    "tag_shares",
    "video_info",
    "video_infos",
]
