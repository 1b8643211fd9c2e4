"""Files of tensors made by hand for the tests, good ones and bad ones."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SAFETENSORS_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "complex64": "C64",
}


def safetensors_bytes(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with that header (JSON, or text as it is) and that buffer."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray[Any, Any]], **dtypes: str) -> Path:
    """Tensors one after the other; `dtypes` names the type of raw bits."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in tensors.items():
        dtype = SAFETENSORS_NAMES[dtypes.get(name, array.dtype.name)]
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    path.write_bytes(safetensors_bytes(header, data))
    return path


def write_sparse(path: Path, dtype: str, shape: list[int], nbytes: int) -> Path:
    """One tensor of zeros that takes no room on the disk."""
    head = safetensors_bytes({"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, nbytes]}})
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + nbytes)
    return path


def npy_bytes(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An .npy file with that header text."""
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def zip_bytes(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of those members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def gguf_string(text: str) -> bytes:
    """Length and bytes."""
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_bytes(
    tensors: list[tuple[str, list[int], int, int]],
    data: bytes = b"",
    *,
    values: bytes = b"",
    value_count: int = 0,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """Tensors are (name, dimensions fastest first, type, offset); `values` is encoded metadata."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), value_count) + values
    for name, dimensions, kind, offset in tensors:
        head += gguf_string(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        head += struct.pack("<IQ", kind, offset)
    return head + b"\0" * (-len(head) % alignment) + data
