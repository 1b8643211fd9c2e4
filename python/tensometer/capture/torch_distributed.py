"""Models that several processes train: which part of a tensor this process has."""

from typing import Any

import torch
from torch import nn

Placement = dict[str, Any]
REPLICATED: Placement = {"kind": "replicate"}


def is_replicated(model: nn.Module) -> bool:
    """Whether every process has the whole model, and gradients are averaged."""
    return isinstance(model, nn.parallel.DistributedDataParallel)


def local_part(tensor: torch.Tensor) -> tuple[torch.Tensor, Placement | None]:
    """The elements of a tensor that lie in this process, without a copy, and where they belong.

    {"kind": "shard", "index": i, "of": n, "shape": [...]}: part i of n of a tensor of that shape.
    {"kind": "replicate"}: all of it, as in other processes. {"kind": "partial"}: a term of a sum. None: no DTensor.
    """
    if not hasattr(tensor, "to_local"):
        return tensor, None
    distributed: Any = tensor.detach()
    mesh, placements = distributed.device_mesh, distributed.placements
    local: torch.Tensor = distributed.to_local()
    if any(placement.is_partial() for placement in placements):
        return local, {"kind": "partial"}
    index, of = 0, 1
    for dimension, placement in enumerate(placements):
        if placement.is_shard():
            index = index * mesh.size(dimension) + mesh.get_local_rank(dimension)
            of *= mesh.size(dimension)
    if of == 1:
        return local, REPLICATED
    return local, {"kind": "shard", "index": index, "of": of, "shape": list(tensor.shape)}
