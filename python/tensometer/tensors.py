"""Objects of other libraries -> something the core reads: a NumPy array, a DLPack capsule or a CUDA array interface.

The core reads NumPy arrays and tensors with the DLPack exchange interface by itself; only what is left arrives here.
"""

from __future__ import annotations

import math
import operator
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

# DLPack's numbers of the kinds of memory.
_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13
_DEVICES = {8: "metal", 10: "rocm", 14: "oneapi"}
# There are no more in 64 bits.
_ADDRESSES = 1 << 63
# CUDA's number of the stream that waits for all others of its kind; DLPack's too.
_LEGACY_STREAM = 1

Adapted = tuple[object, str | None, tuple[int, ...] | None, int, int | None]


@dataclass(frozen=True)
class RawTensor:
    """The bits of a tensor whose dtype NumPy lacks.

    data: an array of unsigned integers of the dtype's size (uint16 for bfloat16, uint8 for the float8 types); shape and
    strides are the tensor's. dtype: any name in tensometer.dtypes(). ValueError on use if the sizes differ.
    """

    data: np.ndarray[Any, Any]
    dtype: str


def adapt(x: Any, argument: str) -> Adapted:
    """Return (array, DLPack capsule or CUDA array interface, dtype name or None, dense shape or None, implicit zeros,
    CUDA stream or None).

    Raises TypeError for what is no tensor, ValueError for one that lies neither in CPU memory nor on a CUDA device.
    """
    if isinstance(x, type):  # a class has the attributes that its tensors would have
        raise _no_tensor(x, argument)
    if isinstance(x, RawTensor):
        return x.data, x.dtype, None, 0, None
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return _adapt_torch(x, argument, torch)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{argument}: is a masked array; pass its compressed() values")
    if isinstance(x, np.ndarray):
        return x.view(np.ndarray), None, None, 0, None
    if hasattr(x, "__array_interface__"):
        return _array(x, argument), None, None, 0, None
    if hasattr(x, "__cuda_array_interface__") and not (hasattr(x, "__dlpack__") and _says_too_little(x)):
        return _cuda_array(x, argument)
    if hasattr(x, "__dlpack__"):
        stream = _LEGACY_STREAM if _lies_on_cuda(x, argument) else None
        return _capsule(x, argument, stream), None, None, 0, stream
    try:
        view = memoryview(x)
    except TypeError:
        raise _no_tensor(x, argument) from None
    return np.asarray(view), None, None, 0, None


def _array(x: Any, argument: str) -> np.ndarray[Any, Any]:
    # What a malformed interface raises is not a closed list.
    try:
        return np.asarray(x)
    except Exception as error:
        raise TypeError(f"{argument}: the __array_interface__ of {type(x).__name__} cannot be read: {error}") from error


def _no_tensor(x: object, argument: str) -> TypeError:
    kinds = "NumPy, torch, DLPack, an array interface or a buffer"
    return TypeError(f"{argument}: {type(x).__name__} is not a tensor ({kinds})")


def _says_too_little(x: Any) -> bool:
    """Whether a CUDA array interface shows elements as mere bytes (bfloat16 and the like), or names no stream: that of
    JAX's arrays does not, and is there before they are computed, which DLPack waits for."""
    interface = x.__cuda_array_interface__
    return "V" in str(interface.get("typestr", "")) or interface.get("stream") is None


def _cuda_array(x: Any, argument: str) -> Adapted:
    interface = x.__cuda_array_interface__
    if isinstance(interface, dict) and interface.get("mask") is not None:
        raise TypeError(f"{argument}: is a masked array; pass its values")
    # What a malformed interface holds is not a closed list.
    try:
        pointer, shape = int(interface["data"][0]), tuple(map(operator.index, interface["shape"]))
        dtype, strides, stream = np.dtype(str(interface["typestr"])), interface.get("strides"), interface.get("stream")
        # Without a stream there is nothing to wait for. 0 is none of the interface's, and is taken for the legacy one.
        stream = _LEGACY_STREAM if stream is None else int(stream) or _LEGACY_STREAM
        for name, value in (("pointer", pointer), ("stream", stream)):
            if not 0 <= value < _ADDRESSES:
                raise ValueError(f"the {name} is {value}")
        if min(shape, default=0) < 0 or math.prod(max(1, one) for one in shape) * dtype.itemsize >= _ADDRESSES:
            raise ValueError(f"the shape is {shape}")
        if strides is not None:
            strides = tuple(map(operator.index, strides))
            if sum(abs(step) * one for step, one in zip(strides, shape, strict=False)) >= _ADDRESSES:
                raise ValueError(f"the strides are {strides}")
        known = {"data": (pointer,), "shape": shape, "dtype": dtype, "strides": strides, "owner": x}
        return known, None, None, 0, stream
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, OverflowError) as error:
        kind = type(x).__name__
        raise TypeError(f"{argument}: the __cuda_array_interface__ of {kind} cannot be read: {error!r}") from error


def _lies_on_cuda(x: Any, argument: str) -> bool:
    """Refuse what lies on a device of another kind before its library is asked to export it."""
    kind, index = x.__dlpack_device__() if hasattr(x, "__dlpack_device__") else (_CPU, 0)
    if kind not in (_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED):
        name = _DEVICES.get(int(kind), f"DLPack device type {int(kind)}")
        raise _elsewhere(argument, f"{name}:{index}")
    return kind in (_CUDA, _CUDA_MANAGED)


def _elsewhere(argument: str, place: object) -> ValueError:
    return ValueError(f"{argument}: lies on {place}; tensors in CPU memory and on CUDA devices are reduced")


def _adapt_torch(x: Any, argument: str, torch: Any) -> Adapted:
    if x.device.type not in ("cpu", "cuda"):
        raise _elsewhere(argument, x.device)
    if x.is_quantized:
        raise TypeError(f"{argument}: dtype {x.dtype} (quantized) cannot be summarized; dequantize it")
    if x.is_nested or x.layout not in _torch_layouts(torch):
        kind = "nested" if x.is_nested else x.layout
        raise TypeError(f"{argument}: layout {kind} cannot be summarized; pass its values or a dense tensor")
    x = x.detach()
    shape, zeros = None, 0
    if x.layout != torch.strided:
        # Duplicate entries of a COO tensor add up, so they must be joined before they can be counted.
        values = (x.coalesce() if x.layout == torch.sparse_coo else x).values()
        # Their order tells nothing: what reads no strides need not ask for a copy of the sparse tensor.
        x, shape, zeros = values.contiguous(), tuple(x.shape), x.numel() - values.numel()
    x = x.resolve_conj().resolve_neg()
    if x.device.type == "cpu":
        return _capsule(x, argument), None, shape, zeros, None
    # -1: nothing waits for anything, for the work goes to the stream that orders the tensor's own.
    stream = int(torch.cuda.current_stream(x.device).cuda_stream)
    return _capsule(x, argument, -1), None, shape, zeros, stream


def _torch_layouts(torch: Any) -> tuple[object, ...]:
    return (
        torch.strided,
        torch.sparse_coo,
        torch.sparse_csr,
        torch.sparse_csc,
        torch.sparse_bsr,
        torch.sparse_bsc,
    )


def _capsule(x: Any, argument: str, stream: int | None = None) -> object:
    """A DLPack capsule, versioned where the producer knows versions; the stream is one that shall wait for its data."""
    wanted = {} if stream is None else {"stream": stream}
    try:
        try:
            capsule = x.__dlpack__(max_version=(1, 0), **wanted)
        except TypeError:
            capsule = x.__dlpack__(**wanted)
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
