"""What a monitor holds on to while a device computes, and what happens to histograms that are wider than expected."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import tensometer
import torch
from fake_cuda import Driver
from tensometer import Monitor
from torch import nn
from torch_stand_in import Device, LatePendings, to_device
from training_on_device import told


@pytest.mark.parametrize(
    "settings",
    [
        {"collections": ["activations", "losses"]},
        {"collections": ["inputs", "losses"]},
        {"collections": ["gradients"], "clipping": True},
    ],
)
def test_no_tensor_is_kept_until_its_results_come(
    device: Driver, late: LatePendings, tmp_path: Path, settings: dict[str, Any]
) -> None:
    model = to_device(nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[weakref.ref[Any]] = []
    for module in model:
        module.register_forward_hook(lambda _, given, output: seen.extend(map(_ref, (*given, output))))
    with Monitor(tmp_path, every=1, strict=True, **settings) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for _ in range(3):
            loss = nn.functional.cross_entropy(model(to_device(torch.randn(8, 8))), to_device(torch.arange(8) % 3))
            loss.backward()
            seen += [_ref(one.grad) for one in model.parameters()]
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss=loss)
            del loss
            Device.catch_up()  # the device itself has done with them
            gc.collect()
            assert [one() for one in seen if one() is not None] == []
        late.release()
        assert monitor.flush()
    assert told(tmp_path, "problem") == []
    assert tensometer.open_run(tmp_path).tensors()


def _ref(tensor: Any) -> weakref.ref[Any]:
    return weakref.ref(tensor.inner)


class Masked(nn.Module):
    """Of which a histogram has far more bins than there is room for at first; and bytes go in."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x * mask


@pytest.mark.filterwarnings("default:.*found no room:RuntimeWarning")
def test_a_wide_histogram_is_told_and_takes_no_bytes_with_it(device: Driver, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = to_device(torch.randn(4096, 8) * torch.exp(torch.randn(4096, 1) * 12))
    collections = {"inputs": {"histogram": True, "resolution": 6}}
    with Monitor(tmp_path, every=1, collections=collections) as monitor, torch.no_grad():
        model = Masked()
        monitor.attach(model)
        for _ in range(2):
            model(x, to_device(torch.rand(4096, 1) > 0.3))
            monitor.step()
    run = tensometer.open_run(tmp_path)
    wide, mask = run.series("input.0"), run.series("input.1")
    assert wide.steps.tolist() == mask.steps.tolist() == [0, 1]
    assert wide["count"].tolist() == [4096 * 8] * 2
    assert [wide.histogram(at) is not None for at in range(2)] == [False, True]
    assert [mask.histogram(at) is not None for at in range(2)] == [True, True]
    problems = told(tmp_path, "problem")
    assert [step for step, _, _ in problems] == [0]
    assert "input.0" in problems[0][2]["error"]
    assert "found no room" in problems[0][2]["error"]
