"""EvalModeInTraining."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rule_models import perceptron, trained
from rule_steps import Bench
from tensometer.rules.eval_mode_in_training import EvalModeInTraining
from tensometer.store import Event
from torch import nn

Each = Callable[[int, nn.Module], None]


def with_dropout() -> nn.Sequential:
    return perceptron(lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.1)))


def to_evaluation(step: int, model: nn.Module) -> None:
    if step == 5:
        model.eval()


def evaluating(every: int, *, properly: bool) -> Each:
    def each(step: int, model: nn.Module) -> None:
        if step % every == 0:
            model.train(not properly)
            with torch.no_grad():
                model(torch.randn(4, 8))
            model.train()

    return each


def test_training_in_evaluation_mode_is_found_at_the_third_step(tmp_path: Path) -> None:
    (finding,) = trained(tmp_path, [EvalModeInTraining()], with_dropout(), each=to_evaluation)
    assert (finding.step, finding.tensor, finding.kind) == (7, "model", "evaluation of model")


def test_evaluation_in_training_mode_is_found_at_the_second_time(tmp_path: Path) -> None:
    (finding,) = trained(tmp_path, [EvalModeInTraining()], with_dropout(), each=evaluating(6, properly=False))
    assert (finding.step, finding.kind, finding.value) == (6, "training of model", 2)


@pytest.mark.parametrize(
    ("model", "each"),
    [
        (with_dropout, evaluating(6, properly=True)),
        (with_dropout, evaluating(100, properly=False)),  # once, to find out shapes
        (lambda: perceptron(nn.ReLU), to_evaluation),
        (lambda: perceptron(nn.ReLU), evaluating(2, properly=False)),
    ],
)
def test_healthy_runs(tmp_path: Path, model: Callable[[], nn.Module], each: Each) -> None:
    assert trained(tmp_path, [EvalModeInTraining()], model(), each=each) == []


def test_a_phase_that_the_loop_names() -> None:
    bench = Bench(EvalModeInTraining())
    passes = [{"phase": name, "training": True, "gradients": True} for name in ("train", "validation")]
    event = Event(0, 0.0, "mode", {"model": "model", "passes": passes, "matters": True})
    assert bench.step(loop={"optimizer_steps": 1}, events=[event]) == []
    assert len(bench.steps(3, loop={"optimizer_steps": 1})) == 1
