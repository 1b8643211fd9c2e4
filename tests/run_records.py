"""Records whose numbers tell their step, and a run of them."""

from pathlib import Path
from typing import Any

import numpy as np
import tensometer
from tensometer.store import Record, RunWriter, TensorKey


def record(step: int, *, phase: str = "train", size: int = 10, histogram: bool = True) -> Record:
    """Two tensors whose numbers tell the step."""
    tensors = {"w": np.full(size, step, np.float32), "b": np.arange(size, dtype=np.float32) + step}
    keys = [TensorKey(name, "weights", "float32", (size,)) for name in tensors]
    table = tensometer.summarize_many(tensors, histogram=histogram, resolution=3)
    return Record(step, 1e9 + step, phase, keys, table)


def write(url: Path | str, steps: range, **options: Any) -> None:
    writer = RunWriter(url, **options)
    for step in steps:
        writer.submit(record(step, phase="eval" if step % 10 == 9 else "train"))
    assert writer.close()
    assert (writer.dropped, writer.problems) == (0, [])
