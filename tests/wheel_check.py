"""Run by `make wheel-check` in an environment that holds the wheel, numpy and zstandard, and nothing else."""

import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tensometer


def main() -> None:
    """Checks what is installed, then summarises an array and scans a file."""
    installed = {distribution.metadata["Name"] for distribution in distributions()}
    assert installed - {"pip", "setuptools"} == {"tensometer", "numpy", "zstandard"}, installed
    package = Path(tensometer.__file__).parent
    assert {path.name for path in package.iterdir()} >= {"py.typed", "_core.pyi", "cli.py"}
    assert Path(sys.prefix) in package.parents
    assert find_spec("torch") is None

    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    summary = tensometer.summarize(x, histogram=True)
    assert (summary.count, summary.zeros, summary.negatives, summary.min, summary.max) == (6, 1, 2, -2, 3)
    assert (summary.mean, summary.sum) == (0.5, 3)

    with TemporaryDirectory() as folder:
        file = Path(folder) / "x.npy"
        np.save(file, x)
        command = [f"{sys.prefix}/bin/tensometer", "scan", str(file)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "float32" in output
    print(f"tensometer {tensometer.__version__}: {', '.join(tensometer.isas())}; scan works without any extra")


main()
