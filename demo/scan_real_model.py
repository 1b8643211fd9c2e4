"""Scan a real model, damage a copy of it in three ways, and show that a scan finds exactly the damage.

python demo/scan_real_model.py MODEL.safetensors
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensometer

NAN = "encoder.layer.2.output.dense.weight"
DEAD = "encoder.layer.3.intermediate.dense.weight"
TWIN = "encoder.layer.4.attention.self.query.weight"


def weights(path: Path, name: str) -> npt.NDArray[np.float32]:
    """A float32 tensor of a safetensors file, mapped for writing."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entry = json.loads(stream.read(length))[name]
    begin = 8 + length + entry["data_offsets"][0]
    return np.memmap(path, np.float32, "r+", begin, tuple(entry["shape"]))


def damage(path: Path) -> None:
    """One NaN, one dead neuron, one duplicated row."""
    weights(path, NAN)[17, 23] = np.nan
    weights(path, DEAD)[100] = 0
    twin = weights(path, TWIN)
    twin[8] = twin[7]


def command_line(*arguments: object) -> int:
    """Run `tensometer` as a person would, and return its exit code."""
    print(f"\n$ tensometer {' '.join(map(str, arguments))}\n", flush=True)
    code = subprocess.run([sys.executable, "-m", "tensometer", *map(str, arguments)], check=False).returncode
    print(f"(exit code {code})", flush=True)
    return code


def check(model: Path, copy: Path) -> None:
    """The scan of the copy differs from the model's by the damage alone."""
    healthy = tensometer.scan(model, units=True)
    damaged = tensometer.scan(copy, units=True, compare=model)
    found = {(flag.name, flag.severity.label, flag.sentence) for flag in set(damaged.flags) - set(healthy.flags)}
    expected = {
        ("nan", "error", "1 of 589824 elements is NaN"),
        ("dead_rows", "warning", "row 100 of 1536 is all zero"),
        ("identical_rows", "warning", "rows 7, 8 of 384 are identical"),
    }
    assert found == expected, f"found {sorted(found)}, expected {sorted(expected)}"
    assert set(healthy.flags) <= set(damaged.flags), "the damage hides a flag of the healthy model"
    changed = {entry.name: entry.change.changed for entry in damaged.entries if entry.change and entry.change.changed}
    assert changed == {NAN: 1, DEAD: 384, TWIN: 384}, f"changed elements: {changed}"


def main() -> int:
    """Returns 0 if the damage and nothing else is found."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    model = Path(sys.argv[1])
    assert command_line("scan", model, "--units") == 0, "the healthy model has errors"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "damaged.safetensors"
        shutil.copyfile(model, copy)
        damage(copy)
        code = command_line(
            "scan", copy, "--units", "--compare", model, "--sort", "changed", "--filter", r"layer\.[234]\."
        )
        assert code == 1, "the damage is no error"
        check(model, copy)
    print("\nThe scan found the NaN, the dead neuron and the duplicated row, and nothing else.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
