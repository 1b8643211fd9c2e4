"""NonFinite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rule_steps import Bench, normal
from tensometer import Monitor
from tensometer.rules import Finding, Severity
from tensometer.rules.non_finite import NonFinite
from tensometer.store import Event
from torch import nn

GOOD = normal(4, 4)
BAD = np.where(np.eye(4, dtype=bool), np.float32(np.nan), GOOD)
INFINITE = np.where(np.eye(4, dtype=bool), np.float32(np.inf), GOOD)
STEPPED = {"optimizer_steps": 1.0}


def told(bench: Bench, **given: Any) -> list[tuple[str, Severity]]:
    """Tensors and severities of what is found."""
    given = {"loop": STEPPED, **given}
    return [(finding.tensor, finding.severity) for finding in bench.step(**given)]


def test_the_earliest_is_told_once_and_then_only_what_is_worse() -> None:
    bench = Bench(NonFinite())
    assert told(bench, losses={"loss": 1.0}, gradients={"a": GOOD}, weights={"a": GOOD}) == []
    given = {"losses": {"loss": 1.0}, "weights": {"a": GOOD}}
    assert told(bench, gradients={"a": GOOD, "b": BAD}, **given) == [("b", Severity.ERROR)]
    assert told(bench, gradients={"a": GOOD, "b": BAD}, **given) == []
    broken = {"gradients": {"a": BAD}, "weights": {"a": BAD}, "activations": {"m": BAD}}
    assert told(bench, losses={"loss": np.nan}, **broken) == [("loss", Severity.FATAL)]
    assert [told(bench, losses={"loss": np.nan}, **broken) for _ in range(20)] == [[]] * 20


def test_a_broken_weight_is_fatal_and_an_infinite_loss_an_error() -> None:
    assert told(Bench(NonFinite()), weights={"a": INFINITE}) == [("a", Severity.FATAL)]
    assert told(Bench(NonFinite()), losses={"loss": np.inf}) == [("loss", Severity.ERROR)]


def test_a_skipped_step_is_none() -> None:
    bench = Bench(NonFinite())
    skipped = {"optimizer_steps": 0.0, "amp_skipped": 1.0}
    for _ in range(20):
        assert told(bench, gradients={"a": INFINITE}, losses={"loss": 1.0}, loop=skipped) == []
        assert told(bench, gradients={"a": BAD}, loop={"optimizer_steps": 0.0}) == []


def test_gradients_of_nobodys_update_must_last() -> None:
    bench = Bench(NonFinite())
    assert bench.steps(4, gradients={"a": BAD}) == []
    assert len(bench.steps(4, gradients={"a": BAD})) == 1


def test_a_loss_that_nothing_was_learned_from_is_a_warning_and_then_fatal() -> None:
    bench = Bench(NonFinite())
    given = {"losses": {"loss": np.nan}}
    assert told(bench, loop={"optimizer_steps": 0.0}, **given) == [("loss", Severity.WARNING)]
    assert told(bench, **given) == [("loss", Severity.FATAL)]


def test_masks_and_losses_of_validation_are_none() -> None:
    bench = Bench(NonFinite(), facts={"mask": {"requires_grad": False}})
    assert told(bench, activations={"scores": -INFINITE}, weights={"mask": -INFINITE}) == []
    assert told(bench, losses={"loss": 1.0, "val_loss": np.nan}) == []
    assert told(bench, activations={"scores": BAD}, losses={"loss": 1.0}) == [("scores", Severity.INFO)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"where": "input", "inputs": ["input.0", "input.1"]}, "NaN in the input (input.0 and 1 more)"),
        (
            {"where": "forward", "module": "a", "module_type": "Log"},
            "the output of a (Log), while what went in was finite",
        ),
        ({"where": "model", "first": False}, "the model, while what went in was not finite either"),
        ({"where": "model", "parameters_not_finite": ["w"]}, "the model, whose w was not finite"),
        ({"where": "backward", "module": "a"}, "the backward pass, where the gradient left a"),
        ({"where": "gradient", "parameters": ["w"]}, "the gradient of w"),
        ({"where": "loss", "losses": {}}, "the loss"),
    ],
)
def test_the_origin_is_told(data: dict[str, Any], words: str) -> None:
    events = [Event(3, 0.0, "nonfinite", data), Event(4, 0.0, "nonfinite", {"where": "loss", "consequence_of": 3})]
    (finding,) = Bench(NonFinite()).step(events=events, losses={"loss": np.nan})
    assert finding.sentence == f"loss is not finite; at step 3 it came from {words}"


class Logarithm(nn.Module):
    """NaN for what is negative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(x)


def _train(model: nn.Module, place: Path, spoil: Callable[[int, torch.Tensor], torch.Tensor]) -> list[Finding]:
    found: list[Finding] = []
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    rules, collections = [NonFinite()], {"activations": True}
    with Monitor(place, every=1, rules=rules, collections=collections, on_finding=found.append) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for step in range(8):
            optimizer.zero_grad()
            loss = model(spoil(step, torch.rand(8, 4) + 0.1)).square().mean()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    return found


def test_a_training_names_the_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), Logarithm(), nn.Linear(4, 2))
    (finding,) = _train(model, tmp_path, lambda step, x: x - 2 * (step == 5))
    assert (finding.step, finding.severity) == (5, Severity.FATAL)
    assert finding.sentence.startswith(
        "loss is not finite; at step 5 it came from the output of 1 (Logarithm), while what went in"
    )
