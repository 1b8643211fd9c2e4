"""DtypeOverflow and DtypeUnderflow."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rule_steps import Bench, normal
from tensometer.rules.dtype_overflow import DtypeOverflow
from tensometer.rules.dtype_underflow import DtypeUnderflow

Array = npt.NDArray[Any]


def half(scale: float, *edges: float) -> Array:
    x: Array = np.clip(normal(8, 8) * scale, -60000, 60000).astype(np.float16)
    x.flat[: len(edges)] = edges
    return x


def over(group: str, x: Array, **more: Any) -> list[tuple[str, int]]:
    given: dict[str, Any] = {"gradients": {"w": half(1.0)}, **more}
    given[group] = {"a": x} if group == "activations" else {"w": x}
    return [(finding.kind.split()[0], finding.step) for finding in Bench(DtypeOverflow()).steps(5, **given)]


@pytest.mark.parametrize("group", ["activations", "gradients"])
def test_little_headroom_and_infinities(group: str) -> None:
    assert over(group, half(1.0, 20000.0)) == [("headroom", 1)]
    assert over(group, half(1.0, -20000.0)) == [("headroom", 1)]
    assert over(group, half(1.0, np.inf)) == [("infinite", 0)]
    assert over(group, half(100.0)) == []


def test_what_does_not_overflow() -> None:
    assert over("activations", normal(8, 8, scale=1e30)) == []  # float32
    assert over("activations", half(1.0, -np.inf)) == []  # a mask
    assert over("activations", half(1.0, -65504.0)) == []
    scaler = {"loop": {"amp_scale": 65536.0}}
    assert over("gradients", half(1.0, 50000.0, np.inf), **scaler) == []
    assert over("activations", half(1.0, 20000.0), **scaler) == [("headroom", 1)]


def under(gradient: Array, activation: Array | None = None, **more: Any) -> list[tuple[str, int]]:
    given = {"gradients": {"w": gradient}, "activations": {"a": normal(8, 8) if activation is None else activation}}
    return [(finding.kind, finding.step) for finding in Bench(DtypeUnderflow()).steps(5, **given, **more)]


def test_gradients_that_are_rounded_away() -> None:
    assert under(half(1e-7)) == [("gradients float16", 2)]
    assert under(half(1e-4)) == []
    assert under(half(0.0)) == []
    assert under(normal(8, 8, scale=1e-30)) == []
    assert under(half(1.0), half(1e-7)) == [("activations float16", 2)]


def test_float32_gradients_that_float16_has_computed() -> None:
    lost = half(4e-8).astype(np.float32)
    assert under(lost) == []
    assert under(lost, half(1.0)) == [("autocast", 2)]
    assert under(lost, half(1.0), loop={"amp_scale": 65536.0}) == []


def test_a_solved_problem_has_small_gradients() -> None:
    bench = Bench(DtypeUnderflow())
    bench.step(gradients={"w": half(1.0)}, losses={"loss": 1.0})
    bench.steps(80, gradients={"w": half(1.0)}, losses={"loss": 1e-4})
    assert bench.steps(5, gradients={"w": half(1e-7)}, losses={"loss": 1e-4}) == []


def test_gradients_that_are_all_lost() -> None:
    def judged(**gradients: Array) -> list[tuple[str, int]]:
        return [(one.kind, one.step) for one in Bench(DtypeUnderflow()).steps(5, gradients=gradients)]

    assert judged(w=half(0.0), v=half(0.0)) == [("gradients float16", 2)]
    assert judged(w=half(0.0), v=half(1.0)) == []  # an adapter that begins at zero
    assert judged(w=normal(8, 8) * 0, v=normal(8, 8) * 0) == []
