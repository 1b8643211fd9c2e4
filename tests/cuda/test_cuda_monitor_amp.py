"""A gradient scaler and settings of optimizers that lie on a device, which nobody asks for their values in a step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import tensometer
import torch
from fake_cuda import Driver
from tensometer import Monitor
from tensometer.capture.callbacks import MonitoredLoop
from tensometer.store import Record
from torch import nn
from torch_stand_in import CudaTensor, Device, nothing_waits, to_device
from training_on_device import on_host, rows_of, told


class State(Enum):
    READY = 0
    UNSCALED = 1
    STEPPED = 2


class Scaler:
    """What GradScaler does, with what it keeps of itself, but for where it has to ask the device by itself."""

    def __init__(self, place: Callable[[Any], Any]) -> None:
        self._place = place
        self._scale: torch.Tensor | None = None  # until a loss is scaled, whose device it is on then
        self._per_optimizer_states: dict[int, Any] = self._fresh()

    def _fresh(self) -> dict[int, Any]:
        return defaultdict(lambda: {"stage": State.READY, "found_inf_per_device": {}})

    def get_scale(self) -> float:
        return 1024.0 if self._scale is None else float(self._scale)

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        if self._scale is None:
            self._scale = self._place(torch.tensor(1024.0))
        return loss * self._scale

    def _asked(self, value: torch.Tensor) -> bool:
        """PyTorch's scaler waits here too."""
        return bool(value.inner if isinstance(value, CudaTensor) else value)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        state = self._per_optimizer_states[id(optimizer)]
        gradients = [one.grad for group in optimizer.param_groups for one in group["params"]]
        found = torch.stack([(~torch.isfinite(one)).any() for one in gradients]).any().float()
        state["found_inf_per_device"] = {found.device: found}
        if getattr(optimizer, "fused_as_it_were", False):
            optimizer.grad_scale, optimizer.found_inf = self._scale, found  # type: ignore[attr-defined]
            optimizer.step()
            del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
        else:
            with torch.no_grad():
                for one in gradients:
                    one.div_(self._scale)
            Device.catch_up()
            if not self._asked(found):
                optimizer.step()
        state["stage"] = State.STEPPED

    def update(self) -> None:
        found = sum(
            one for state in self._per_optimizer_states.values() for one in state["found_inf_per_device"].values()
        )
        assert self._scale is not None
        self._scale.mul_(1.0 - 0.5 * (found > 0))
        self._per_optimizer_states = self._fresh()


class FusedSGD(torch.optim.SGD):
    """Leaves out a step by itself, as fused optimizers do, and unscales."""

    fused_as_it_were = True

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            for one in group["params"]:
                change = one.grad * (-group["lr"] / self.grad_scale)  # type: ignore[attr-defined]
                one.add_(torch.where(self.found_inf > 0, torch.zeros_like(one), change))  # type: ignore[attr-defined]


def train(
    path: Path,
    place: Callable[[Any], Any],
    kind: type[torch.optim.SGD],
    *,
    updates_first: bool,
    accumulate: int = 1,
    overflow: int = 2,
) -> None:
    torch.manual_seed(0)
    model = place(nn.Linear(4, 2))
    optimizer = kind(model.parameters(), lr=0.125)
    scaler = Scaler(place)
    inputs = torch.randn(6, 3, 4)
    inputs[overflow, 0, 0] = float("inf")
    with Monitor(path, every=1, collections=["gradients", "weights", "loop"]) as monitor:
        monitor.attach(model, optimizer=optimizer, scaler=scaler)  # type: ignore[arg-type]
        for number, x in enumerate(inputs):
            with nothing_waits():
                scaler.scale(model(place(x)).square().mean()).backward()
                if (number + 1) % accumulate == 0:
                    scaler.step(optimizer)
                    if updates_first:
                        scaler.update()
                        monitor.step()
                    else:
                        monitor.step()
                        scaler.update()
                    optimizer.zero_grad()
                else:
                    monitor.step()


@pytest.mark.parametrize("overflow", [0, 2])
@pytest.mark.parametrize(("updates_first", "accumulate"), [(True, 1), (True, 2), (False, 1)])
def test_a_scaler_is_read_without_waiting(
    device: Driver, records: list[Record], tmp_path: Path, updates_first: bool, accumulate: int, overflow: int
) -> None:
    settings = {
        "kind": torch.optim.SGD,
        "updates_first": updates_first,
        "accumulate": accumulate,
        "overflow": overflow,
    }
    train(tmp_path / "cpu", on_host, **settings)
    expected = rows_of(records)
    train(tmp_path / "cuda", to_device, **settings)
    assert rows_of(records) == expected
    assert told(tmp_path / "cuda") == told(tmp_path / "cpu")
    run = tensometer.open_run(tmp_path / "cuda")
    assert 1.0 in run.series("amp_skipped")["mean"]
    assert Device.synchronised == 0


def test_an_optimizer_that_leaves_out_its_step_by_itself(device: Driver, tmp_path: Path) -> None:
    train(tmp_path / "cuda", to_device, FusedSGD, updates_first=True)
    run = tensometer.open_run(tmp_path / "cuda")
    assert run.series("amp_skipped")["mean"].tolist() == [0, 0, 1, 0, 0, 0]
    assert run.series("optimizer_steps")["mean"].tolist() == [1, 1, 0, 1, 1, 1]
    assert run.series("amp_scale")["mean"].tolist() == [1024, 1024, 1024, 512, 512, 512]
    assert run.series("weight", collection="gradients").steps.tolist() == list(range(6))
    assert told(tmp_path / "cuda", "problem") == []


def test_numbers_may_lie_on_the_device(device: Driver, tmp_path: Path) -> None:
    for name, place in (("cpu", on_host), ("cuda", to_device)):
        torch.manual_seed(0)
        model = place(nn.Linear(4, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        optimizer.param_groups[0]["lr"] = place(torch.tensor(0.25))
        with pytest.warns(RuntimeWarning, match="wrong: "):
            _hand_over(tmp_path / name, model, optimizer, place)
    assert told(tmp_path / "cuda", "nonfinite") == told(tmp_path / "cpu", "nonfinite") != []
    cpu, cuda = (tensometer.open_run(tmp_path / name) for name in ("cpu", "cuda"))
    for name in ("loss", "count", "high", "learning_rate/0", "other"):
        ours, theirs = cuda.series(name), cpu.series(name)
        assert ours.steps.tolist() == theirs.steps.tolist() == [0, 1, 2]
        for statistic in ("mean", "nan", "neginf", "count", "min"):
            assert ours[statistic].tolist() == pytest.approx(theirs[statistic].tolist(), nan_ok=True, abs=0, rel=0)
    assert "wrong: a tensor of 2 elements is not a number" in told(tmp_path / "cuda", "problem")[0][2]["error"]


def _hand_over(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, place: Callable[[Any], Any]) -> None:
    with Monitor(path, every=1) as monitor, nothing_waits():
        monitor.attach(model, optimizer=optimizer)
        for value in (1.5, float("nan"), float("-inf")):
            numbers = {"loss": torch.tensor(value), "count": torch.tensor([3]), "high": torch.tensor(True)}
            monitor.record("other", place(torch.arange(3)))
            monitor.step(**{name: place(one) for name, one in numbers.items()}, wrong=place(torch.ones(2)))


def test_what_a_callback_logs_may_lie_on_the_device(device: Driver, tmp_path: Path) -> None:
    loop = MonitoredLoop(str(tmp_path), {"every": 2})
    loop.begin(0, rank=0, world_size=1)
    with nothing_waits():
        for step in range(4):
            loop.log({"loss": to_device(torch.tensor(float(step)))})
            loop.log({"accuracy": to_device(torch.tensor(0.5 * step))}, phase="eval")
            loop.end_step()
    loop.end()
    run = tensometer.open_run(tmp_path)
    # Of two between captured steps the last counts.
    assert run.series("loss")["mean"].tolist() == [0.0, 2.0]
    assert run.series("accuracy", phase="eval")["mean"].tolist() == [0.0, 1.0]
    assert told(tmp_path, "problem") == []
