"""Tensors of PyTorch: where they are in what modules pass, and what is said of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from tensometer._core import Summary
from tensometer.capture.sink import Taken
from tensometer.capture.torch_distributed import local_part
from tensometer.store import TensorKey

# What a deep nesting of containers may cost; nothing that is trained has more.
_MAX_DEPTH = 8


def tensors_in(value: object, part: str = "", depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors inside tuples, lists, mappings and dataclasses, with where they are: "" or ".0.name"."""
    if isinstance(value, torch.Tensor):
        yield part, value
    elif depth == _MAX_DEPTH:
        return
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from tensors_in(inner, f"{part}.{key}", depth + 1)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for key, inner in zip(value._fields, value, strict=True):
            yield from tensors_in(inner, f"{part}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from tensors_in(inner, f"{part}.{index}", depth + 1)
    elif is_dataclass(value):
        for name in value.__dataclass_fields__:
            yield from tensors_in(getattr(value, name), f"{part}.{name}", depth + 1)


def key_of(name: str, collection: str, tensor: torch.Tensor, facts: Mapping[str, Any] | None = None) -> TensorKey:
    """What a tensor is."""
    return TensorKey(name, collection, dtype_of(tensor), tuple(tensor.shape), {} if facts is None else facts)


def dtype_of(tensor: torch.Tensor) -> str:
    """The dtype's name in the engine."""
    return _dtype_name(tensor.dtype)


@cache
def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def part_of(
    name: str, collection: str, tensor: torch.Tensor, facts: Mapping[str, Any] | None = None
) -> tuple[TensorKey, torch.Tensor]:
    """What of a tensor lies in this process, and where it belongs (`facts["placement"]`) if there are others."""
    local, placement = local_part(tensor)
    if placement is not None:
        facts = {**(facts or {}), "placement": placement}
    return key_of(name, collection, local, facts), local


def described(name: str, summary: Summary) -> dict[str, Any]:
    """A tensor in an event: JSON values. linf and rms are of its finite elements, None if there is none."""
    finite = summary.nonfinite < summary.count
    return {
        "name": name,
        "dtype": summary.dtype,
        "shape": list(summary.shape),
        "count": summary.count,
        "nan": summary.nan,
        "posinf": summary.posinf,
        "neginf": summary.neginf,
        "linf": summary.linf if finite else None,
        "rms": summary.rms if finite else None,
    }


def not_finite(taken: Sequence[Taken]) -> list[TensorKey]:
    """Which of the tensors that were taken are not finite."""
    return [
        key for keys, table in taken if table.nonfinite for key, one in zip(keys, table, strict=True) if one.nonfinite
    ]


def in_backward() -> bool:
    """Whether autograd is at work in this thread: a forward pass that runs now is a recomputation of a checkpoint."""
    return bool(torch._C._current_graph_task_id() != -1)


def unwrapped(model: nn.Module) -> tuple[nn.Module, bool]:
    """The model inside wrappers that compile or replicate it, whose names people know; whether it is compiled."""
    compiled = False
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            compiled, model = True, model._orig_mod  # type: ignore[assignment]
        else:
            return model, compiled
