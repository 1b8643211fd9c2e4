"""Loops that are not PyTorch's: a monitor takes the arrays of other libraries, and warns once of those on a GPU."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensometer import Monitor, open_run

BEGIN = [1.0, -2.0, 4.0]


class OnGpu:
    """An array as CuPy's: it lies on a CUDA device, and reading it there is not for this build."""

    dtype, shape = np.dtype(np.float32), (3,)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("asked for data on a device that cannot be read")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": "<f4", "data": (4096, True), "version": 3, "stream": 1}


def descend(monitor: Monitor, gradient: Any, weight: Any, steps: int) -> Any:
    """Gradient descent on a sum of squares, with the arrays of any library."""
    for _ in range(steps):
        monitor.record("weight", weight)
        weight = weight - 0.25 * gradient(weight)
        monitor.step(loss=(weight * weight).sum(), steepness=weight[:1])
    return weight


def assert_descended(path: Path, begin: list[float], steps: int) -> None:
    """Each step halves the weights: exact in binary numbers."""
    run = open_run(path)
    weight = run.series("weight")
    assert weight["l1"].tolist() == [sum(map(abs, begin)) / 2**step for step in range(steps)]
    assert (weight.key.dtype, weight.key.shape) == ("float32", (len(begin),))
    squares = sum(value * value for value in begin)
    assert run.series("loss")["mean"].tolist() == [squares / 4 ** (step + 1) for step in range(steps)]
    assert run.series("steepness")["mean"].tolist() == [begin[0] / 2 ** (step + 1) for step in range(steps)]


def test_numpy(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        end = descend(monitor, lambda weight: 2 * weight, np.array(BEGIN, np.float32), 4)
    assert_descended(tmp_path, BEGIN, 4)
    assert end.tolist() == [value / 16 for value in BEGIN]


# In a process of its own: after jax is imported, every fork warns.
JAX = """
import sys
import jax
from tensometer import Monitor
from test_capture_arrays import BEGIN, descend

gradient = jax.grad(lambda weight: (weight * weight).sum())
with Monitor(sys.argv[1], every=1, strict=True) as monitor:
    descend(monitor, gradient, jax.numpy.array(BEGIN, "float32"), 4)
    monitor.record("half", jax.numpy.array(BEGIN, "bfloat16"))
    monitor.step()
"""


def test_jax(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", JAX, str(tmp_path)], env=environment, check=True, timeout=120)
    assert_descended(tmp_path, BEGIN, 4)
    series = open_run(tmp_path).series("half")
    assert (series.key.dtype, series["l1"].tolist()) == ("bfloat16", [7.0])


def loop_on_gpu(monitor: Monitor) -> None:
    """Records an array that cannot be read, and others that can."""
    for step in range(3):
        monitor.record("there", OnGpu())
        monitor.record("here", np.full(2, step, np.float32))
        monitor.step(loss=float(step))


def loop_with_lost_losses(monitor: Monitor) -> None:
    """Hands over as a loss what is no number."""
    for _ in range(3):
        monitor.record("x", np.ones(2))
        monitor.step(loss=OnGpu())


def test_arrays_on_a_gpu_are_one_warning(tmp_path: Path) -> None:
    with Monitor(tmp_path / "a", every=1) as monitor:
        with pytest.warns(RuntimeWarning, match=r"(cuda: no driver|CUDA device).*; training goes on") as caught:
            loop_on_gpu(monitor)
        assert len(caught) == 1
    run = open_run(tmp_path / "a")
    assert [key.name for key in run.tensors() if key.collection != "loop"] == ["here", "loss"]
    assert run.series("here")["max"].tolist() == run.series("loss")["mean"].tolist() == [0, 1, 2]
    # Without a driver, or with one that knows of no memory there.
    missing = pytest.raises((RuntimeError, ValueError), match=r"cuda: no driver|CUDA device")
    with Monitor(tmp_path / "b", every=1, strict=True) as strict, missing:
        strict.record("there", OnGpu())


def test_a_number_that_cannot_be_read_is_one_warning(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1) as monitor:
        with pytest.warns(RuntimeWarning, match="loss: .* is not a number") as caught:
            loop_with_lost_losses(monitor)
        assert len(caught) == 1
    assert open_run(tmp_path).series("x").steps.tolist() == [0, 1, 2]
