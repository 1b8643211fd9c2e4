"""How much of the tokens that go into a model is padding, as its embeddings tell which token that is."""

from collections.abc import Sequence

import torch
from torch import nn

from tensometer._core import summarize


def padding_token(model: nn.Module) -> int | None:
    """The `padding_idx` of a model's embeddings; None if they have none, or several."""
    found = {module.padding_idx for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)}
    found.discard(None)
    return found.pop() if len(found) == 1 else None


def padding_shares(inputs: Sequence[tuple[str, torch.Tensor]], token: int) -> dict[str, float]:
    """Of the inputs that are sequences of whole numbers, by NAME/padding, which share is the token."""
    return {
        f"{name}/padding": summarize(tensor == token, threads=1).mean
        for name, tensor in inputs
        if tensor.dim() > 1 and tensor.numel() and tensor.dtype in (torch.int64, torch.int32)
    }
