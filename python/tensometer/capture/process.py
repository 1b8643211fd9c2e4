"""Which process of a distributed training this is."""

import os
import sys
from typing import Any

from tensometer.capture.checks import whole
from tensometer.notices import warn


def rank_and_size(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """What was given; else what torch.distributed knows; else RANK and WORLD_SIZE of the environment; else one process.

    TypeError or ValueError, naming the argument, for what is no whole number or too small.
    """
    found_rank, found_size = process_group() or (_from_environment("RANK", 0), _from_environment("WORLD_SIZE", 1))
    own = found_rank if rank is None else whole("rank", rank, 0)
    return own, max(found_size, own + 1) if world_size is None else whole("world_size", world_size, 1)


def process_group() -> tuple[int, int] | None:
    """Rank and world size of PyTorch's default process group; None as long as there is none."""
    distributed: Any = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        warn(f"{name}={text!r} is no number, and is ignored")
        return default
    return int(text or default)
