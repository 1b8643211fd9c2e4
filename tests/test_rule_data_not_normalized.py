"""DataNotNormalized."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rule_steps import Bench, normal
from tensometer import Monitor
from tensometer.rules import Finding
from tensometer.rules.data_not_normalized import DataNotNormalized
from torch import nn

IMAGES = np.random.default_rng(0).random((32, 3, 8, 8)).astype(np.float32)
TABLE = normal(32, 10)


def kinds(value: object, name: str = "input.0", steps: int = 5) -> list[str]:
    """The kinds of what is found in inputs."""
    return [finding.kind for finding in Bench(DataNotNormalized()).steps(steps, inputs={name: value})]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (255 * IMAGES, "large"),
        (1e6 * TABLE, "large"),
        (TABLE + 750 * np.eye(10, dtype=np.float32)[3], "large"),
        (IMAGES / 255, "small"),
        (5 + 0.01 * TABLE, "off"),
    ],
)
def test_what_nobody_scaled_is_found(value: object, kind: str) -> None:
    assert kinds(value) == [kind]


@pytest.mark.parametrize(
    "value",
    [
        IMAGES,
        2 * IMAGES - 1,
        0.9 + 0.1 * IMAGES,
        TABLE,
        3 * TABLE,
        16 * IMAGES,
        np.linspace(-10, 10, 64, dtype=np.float32)[:, None],
        np.eye(1000, dtype=np.float32)[:64],
        np.ones((64, 4), np.float32),
        np.zeros((64, 4), np.float32),
        np.arange(64.0).reshape(64, 1).astype(np.int64) * 1000,
        np.arange(1000.0, 1064.0),
        np.where(np.tri(64, dtype=bool), 0, -1e9).astype(np.float32),
    ],
)
def test_usual_inputs_and_what_is_no_data_are_none(value: object) -> None:
    assert kinds(value) == []


def test_masks_and_times_are_known_by_name() -> None:
    assert kinds(1000 * TABLE, "input.attention_mask") == []
    assert kinds(1000 * TABLE, "input.timesteps") == []


def test_a_few_samples_are_not_judged() -> None:
    assert kinds(255 * IMAGES[:4], steps=10) == []


class Scaled(nn.Module):
    """Bytes are brought to a usual size inside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer((x - 127) / 64)
        return result


@pytest.mark.parametrize("model", [nn.Sequential(nn.BatchNorm1d(10), nn.Linear(10, 4)), Scaled(), nn.Linear(10, 4)])
def test_a_model_that_scales_by_itself_is_none(model: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    found: list[Finding] = []
    with Monitor(tmp_path, every=1, rules=[DataNotNormalized()], on_finding=found.append) as monitor:
        monitor.attach(model)
        for _ in range(5):
            model(255 * torch.rand(32, 10)).square().mean().backward()
            monitor.step()
    assert [finding.kind for finding in found] == (["large"] if isinstance(model, nn.Linear) else [])
