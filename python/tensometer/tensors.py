"""Objects of other libraries -> something the core reads: a NumPy array or a DLPack capsule.

The core reads NumPy arrays and tensors with the DLPack exchange interface by itself; only what is left arrives here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

# DLPack's numbers of the kinds of memory.
_CPU, _CUDA_HOST = 1, 3
_DEVICES = {2: "cuda", 8: "metal", 10: "rocm", 13: "cuda (managed)", 14: "oneapi"}

Adapted = tuple[object, str | None, tuple[int, ...] | None, int]


@dataclass(frozen=True)
class RawTensor:
    """The bits of a tensor whose dtype NumPy lacks.

    data: an array of unsigned integers of the dtype's size (uint16 for bfloat16, uint8 for the float8 types); shape and
    strides are the tensor's. dtype: any name in tensometer.dtypes(). ValueError on use if the sizes differ.
    """

    data: np.ndarray[Any, Any]
    dtype: str


def adapt(x: Any, argument: str) -> Adapted:
    """Return (array or DLPack capsule, dtype name or None, dense shape or None, implicit zeros).

    Raises TypeError for what is no tensor, ValueError for a tensor that does not lie in CPU memory.
    """
    if isinstance(x, type):  # a class has the attributes that its tensors would have
        raise _no_tensor(x, argument)
    if isinstance(x, RawTensor):
        return x.data, x.dtype, None, 0
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return _adapt_torch(x, argument, torch)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{argument}: is a masked array; pass its compressed() values")
    if isinstance(x, np.ndarray):
        return x.view(np.ndarray), None, None, 0
    if hasattr(x, "__cuda_array_interface__") and not hasattr(x, "__dlpack__"):
        raise ValueError(f"{argument}: lies on a CUDA device; this build reduces tensors in CPU memory")
    if hasattr(x, "__array_interface__"):
        return _array(x, argument), None, None, 0
    if hasattr(x, "__dlpack__"):
        _check_device(x, argument)
        return _capsule(x, argument), None, None, 0
    try:
        view = memoryview(x)
    except TypeError:
        raise _no_tensor(x, argument) from None
    return np.asarray(view), None, None, 0


def _array(x: Any, argument: str) -> np.ndarray[Any, Any]:
    # What a malformed interface raises is not a closed list.
    try:
        return np.asarray(x)
    except Exception as error:
        raise TypeError(f"{argument}: the __array_interface__ of {type(x).__name__} cannot be read: {error}") from error


def _no_tensor(x: object, argument: str) -> TypeError:
    kinds = "NumPy, torch, DLPack, an array interface or a buffer"
    return TypeError(f"{argument}: {type(x).__name__} is not a tensor ({kinds})")


def _check_device(x: Any, argument: str) -> None:
    """Refuse what lies on another device before its library is asked to export it."""
    kind, index = x.__dlpack_device__() if hasattr(x, "__dlpack_device__") else (_CPU, 0)
    if kind not in (_CPU, _CUDA_HOST):
        name = _DEVICES.get(int(kind), f"DLPack device type {int(kind)}")
        raise ValueError(f"{argument}: lies on {name}:{index}; this build reduces tensors in CPU memory")


def _adapt_torch(x: Any, argument: str, torch: Any) -> Adapted:
    if x.device.type != "cpu":
        raise ValueError(f"{argument}: lies on {x.device}; this build reduces tensors in CPU memory")
    if x.is_quantized:
        raise TypeError(f"{argument}: dtype {x.dtype} (quantized) cannot be summarized; dequantize it")
    if x.is_nested or x.layout not in _torch_layouts(torch):
        kind = "nested" if x.is_nested else x.layout
        raise TypeError(f"{argument}: layout {kind} cannot be summarized; pass its values or a dense tensor")
    x = x.detach()
    if x.layout != torch.strided:
        # Duplicate entries of a COO tensor add up, so they must be joined before they can be counted.
        values = (x.coalesce() if x.layout == torch.sparse_coo else x).values()
        return _capsule(values, argument), None, tuple(x.shape), x.numel() - values.numel()
    return _capsule(x.resolve_conj().resolve_neg(), argument), None, None, 0


def _torch_layouts(torch: Any) -> tuple[object, ...]:
    return (
        torch.strided,
        torch.sparse_coo,
        torch.sparse_csr,
        torch.sparse_csc,
        torch.sparse_bsr,
        torch.sparse_bsc,
    )


def _capsule(x: Any, argument: str) -> object:
    """A DLPack capsule, versioned where the producer knows versions."""
    try:
        try:
            capsule = x.__dlpack__(max_version=(1, 0))
        except TypeError:
            capsule = x.__dlpack__()
    except BufferError as error:
        dtype = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{argument}: dtype {dtype} cannot be summarized: {error}") from error
    if type(capsule).__name__ != "PyCapsule":
        raise TypeError(f"{argument}: its __dlpack__() returned {type(capsule).__name__}, not a DLPack capsule")
    return capsule


def bytes_of(x: Any) -> bytes:
    """The elements of a tensor in C order, little-endian; of sparse ones with their zeros. TypeError for no tensor."""
    if isinstance(x, RawTensor):
        x = x.data
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        dense = x.detach().to_dense() if x.layout != torch.strided else x.detach()
        flat = dense.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        return bytes(flat.view(torch.uint8).numpy().tobytes())
    array = np.asarray(x) if hasattr(x, "__array_interface__") or not hasattr(x, "__dlpack__") else np.from_dlpack(x)
    if array.dtype.hasobject:
        raise _no_tensor(x, "tensor")
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
