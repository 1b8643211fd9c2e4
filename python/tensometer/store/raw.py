"""A raw tensor: one that a run keeps whole, in a file of its own, as docs/format.md specifies it."""

import json
import struct
from typing import Any

import numpy as np
import zstandard

from tensometer.checkpoint.entry import NUMPY_DTYPES, as_tensor
from tensometer.extras import available
from tensometer.store.segment import ALIGNMENT, VERSION, SegmentError, TensorKey, decompressed, from_planes, to_planes

MAGIC = b"tmzarray"
_HEADER = struct.Struct("<8sIIQ")
_LEVEL = 3


def check_raw(key: TensorKey, data: bytes) -> None:
    """ValueError if the bytes are not as many as dtype and shape say, or the dtype is unknown."""
    if len(data) != _count(key.shape) * _bits(key.dtype).itemsize:
        raise ValueError(f"data: {len(data)} bytes for shape {list(key.shape)} of {key.dtype}")


def encode_raw(key: TensorKey, data: bytes) -> bytes:
    """A file of elements in C order, little-endian, that check_raw() lets pass."""
    elements = np.frombuffer(data, _bits(key.dtype))
    text = json.dumps({"dtype": key.dtype, "shape": list(key.shape)}).encode()
    text += b" " * (-(_HEADER.size + len(text)) % ALIGNMENT)
    planes = to_planes(elements)
    header = _HEADER.pack(MAGIC, VERSION, len(text), _HEADER.size + len(text) + len(planes))
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(header + text + planes)


def decode_raw(data: bytes, name: str) -> Any:
    """The array of such a file; of dtypes that NumPy lacks one of ml_dtypes, or without that package a RawTensor.

    SegmentError for anything else.
    """
    payload, rest = decompressed(data, name)
    if rest or len(payload) < _HEADER.size:
        raise SegmentError(name, "is no raw tensor")
    magic, version, schema_size, size = _HEADER.unpack_from(payload)
    if magic != MAGIC or version != VERSION or size != len(payload) or _HEADER.size + schema_size > size:
        raise SegmentError(name, "does not begin as a raw tensor of this version does")
    begin = _HEADER.size + schema_size
    try:
        schema = json.loads(payload[_HEADER.size : begin])
        dtype, shape = str(schema["dtype"]), tuple(int(extent) for extent in schema["shape"])
        count = _count(shape)
        bits = _bits(dtype)
        if count < 0 or begin + count * bits.itemsize != size:
            raise ValueError(f"shape {list(shape)} of {dtype} does not take {size - begin} bytes")
        elements = from_planes(payload, begin, bits, count).reshape(shape)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise SegmentError(name, f"has no valid schema: {type(error).__name__} {error}") from error
    known = available("ml_dtypes")
    narrow = getattr(known, dtype, None)
    return as_tensor(elements, dtype) if narrow is None else elements.view(narrow)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def _bits(dtype: str) -> "np.dtype[Any]":
    if dtype not in NUMPY_DTYPES:
        raise ValueError(f"dtype: {dtype} cannot be kept raw")
    return NUMPY_DTYPES[dtype]
