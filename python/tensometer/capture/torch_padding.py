"""How much of the tokens that go into a model is padding, as its embeddings tell which token that is."""

from collections.abc import Sequence

import torch
from torch import nn

from tensometer._core import Summary
from tensometer.capture.sink import Sink


def padding_token(model: nn.Module) -> int | None:
    """The `padding_idx` of a model's embeddings; None if they have none, or several."""
    found = {module.padding_idx for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)}
    found.discard(None)
    return found.pop() if len(found) == 1 else None


def take_padding_shares(inputs: Sequence[tuple[str, torch.Tensor]], token: int, sink: Sink, phase: str) -> None:
    """Of the inputs that are sequences of whole numbers, keep by NAME/padding which share is the token."""
    names, tensors = [], []
    for name, tensor in inputs:
        if tensor.dim() > 1 and tensor.numel() and tensor.dtype in (torch.int64, torch.int32):
            names.append(f"{name}/padding")
            tensors.append(tensor == token)

    def keep(rows: Sequence[Summary]) -> None:
        sink.take_scalars("inputs", {name: one.mean for name, one in zip(names, rows, strict=True)}, phase)

    sink.look(tensors, keep)
