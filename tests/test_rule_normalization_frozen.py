"""NormalizationFrozen."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rule_models import perceptron, trained
from rule_steps import Bench, normal
from tensometer.rules.normalization_frozen import NormalizationFrozen
from torch import nn


def network() -> nn.Sequential:
    return perceptron(lambda: nn.Sequential(nn.BatchNorm1d(24), nn.ReLU()))


def freeze(step: int, model: nn.Module) -> None:
    if step == 4:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()


def freeze_with_weights(step: int, model: nn.Module) -> None:
    freeze(step, model)
    if step == 4:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.requires_grad_(False)
                module.zero_grad()


def test_a_normalisation_in_evaluation_mode_is_found_at_the_third_step(tmp_path: Path) -> None:
    (finding,) = trained(tmp_path, [NormalizationFrozen()], network(), each=freeze)
    assert (finding.tensor, finding.step, len(finding.others)) == ("1.0.running_mean", 6, 1)


@pytest.mark.parametrize("each", [lambda step, model: None, freeze_with_weights])
def test_healthy_runs(tmp_path: Path, each: Callable[[int, nn.Module], None]) -> None:
    assert trained(tmp_path, [NormalizationFrozen()], network(), each=each) == []


def test_outputs_that_do_not_change_move_no_statistics() -> None:
    bench = Bench(NormalizationFrozen())
    given = {"gradients": {"a.weight": normal(4)}, "buffers": {"a.running_mean": normal(4)}}
    assert bench.steps(5, **given, activations={"a": normal(8, 4)}) == []
    (finding,) = [
        finding for seed in range(5) for finding in bench.step(**given, activations={"a": normal(8, 4, seed=seed)})
    ]
    assert finding.tensor == "a.running_mean"
