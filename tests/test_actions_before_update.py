"""Gradients that are judged before an optimizer uses them: updates that are left out, trainings that stop in time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from own_rules import NotFinite
from tensometer import Finding, Monitor, StopTraining, actions, open_run
from tensometer.replay import evaluate
from tensometer.rules import Severity
from torch import nn
from training import network, x_and_y


class Training:
    """A small network whose gradient becomes NaN at some steps."""

    def __init__(self, path: Path, broken: set[int], **settings: Any) -> None:
        torch.set_num_threads(1)
        self.model, (self.x, self.y) = network(), x_and_y()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.monitor = Monitor(path, every=5, **{"rules": [NotFinite()], **settings})
        self.monitor.attach(self.model, optimizer=self.optimizer)
        self.broken = broken

    def step(self, number: int) -> None:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        if number in self.broken:
            gradient = self.model[0].weight.grad
            assert isinstance(gradient, torch.Tensor)
            gradient[0, 0] = float("nan")
        self.optimizer.step()
        self.monitor.step(loss=loss)

    def weights(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self.model.parameters()]


def equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def test_before_update_a_nan_never_reaches_the_weights(tmp_path: Path) -> None:
    told: list[Finding] = []
    stop = actions.stop_training(before_update=True)
    training = Training(tmp_path, {3}, on_finding=[stop, told.append])
    for number in range(3):
        training.step(number)
    before = training.weights()
    with pytest.raises(StopTraining, match=r"step 3: NotFinite \(fatal\): 0.weight is not finite"):
        training.step(3)
    assert equal(before, training.weights())
    training.monitor.close()
    assert [(one.rule, one.step) for one in told] == [("NotFinite", 3)]
    run = open_run(tmp_path)
    assert [event.step for event in run.events("finding")] == [3]
    assert run.series("optimizer_steps")["mean"].tolist()[-1] == 1.0
    # Another process that reads the run finds the same.
    assert [str(one) for one in evaluate(tmp_path, [NotFinite()])] == [str(one) for one in told]


def test_before_update_the_default_rules_stop_at_a_nan_in_the_data(tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    stop = actions.stop_training(before_update=True)
    with Monitor(tmp_path, every=10, rules=True, on_finding=stop) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for number in range(4):
            if number == 3:
                x[0, 0] = float("nan")
            before = [parameter.detach().clone() for parameter in model.parameters()]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            if number == 3:
                with pytest.raises(StopTraining, match=r"step 3: NonFinite \(fatal\): the gradient of 0.weight"):
                    optimizer.step()
                break
            optimizer.step()
            monitor.step(loss=loss)
    assert equal(before, [*model.parameters()])


def test_skip_update_leaves_weights_and_optimizer_as_they_are(tmp_path: Path) -> None:
    told: list[Finding] = []
    broken = {2, 3, 5}
    skipping = Training(tmp_path / "a", broken, on_finding=[actions.skip_update(), told.append])
    healthy = Training(tmp_path / "b", set())
    for number in range(10):
        before = skipping.weights()
        skipping.step(number)
        assert equal(before, skipping.weights()) is (number in broken)
        if number not in broken:
            healthy.step(number)
    assert equal(skipping.weights(), healthy.weights())
    for one in (skipping, healthy):
        one.monitor.close()
    assert [one.step for one in told] == [2]
    run = open_run(tmp_path / "a")
    assert [event.step for event in run.events("update_skipped")] == sorted(broken)
    # Of the steps at which settings of the loop are captured.
    assert run.series("optimizer_steps")["mean"].tolist() == [1.0, 0.0]


def test_an_optimizer_with_a_closure_can_be_stopped_too(tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    stop = actions.stop_training(before_update=True)
    with Monitor(tmp_path, every=1, rules=[NotFinite()], on_finding=stop) as monitor:
        monitor.attach(model, optimizer=optimizer)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y) * float("nan")
            loss.backward()
            return loss

        with pytest.raises(StopTraining):
            optimizer.step(closure)  # type: ignore[no-untyped-call]
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_a_look_before_the_update_is_not_counted_as_a_step(tmp_path: Path) -> None:
    told: list[Finding] = []
    skip = actions.skip_update(rules=["NotFinite"])
    training = Training(tmp_path, {2, 3, 4}, on_finding=[skip, told.append], rules=[NotFinite(patience=2)])
    for number in range(6):
        training.step(number)
    training.monitor.close()
    # The first bad update reaches the weights, as the patience has it, and from then on every gradient is broken.
    assert [event.step for event in open_run(tmp_path).events("update_skipped")] == [3, 4, 5]
    assert next((one.step, one.window) for one in told if not one.repeated) == (3, (2, 3))
    assert [str(one) for one in evaluate(tmp_path, [NotFinite(patience=2)])] == [str(one) for one in told]


def test_what_stops_before_an_update_is_told_to_all_other_actions(tmp_path: Path) -> None:
    told: list[Finding] = []
    chosen = [actions.stop_training(before_update=True), told.append]
    training = Training(tmp_path, {3}, on_finding=chosen, rules=True)
    for number in range(3):
        training.step(number)
    with pytest.raises(StopTraining):
        training.step(3)
    training.monitor.close()
    assert [(one.rule, one.step) for one in told if one.severity >= Severity.WARNING] == [("NonFinite", 3)]
    run = open_run(tmp_path)
    assert [event.step for event in run.events("update_skipped")] == [3]
    live, offline = ([str(one) for one in found] for found in (told, evaluate(tmp_path)))
    assert offline == live


@pytest.mark.parametrize("fused", [True, False])
def test_steps_that_a_gradient_scaler_leaves_out_are_no_steps(tmp_path: Path, fused: bool) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    told: list[Finding] = []
    chosen = [actions.stop_training(before_update=True), told.append]
    with Monitor(tmp_path, every=1, rules=True, on_finding=chosen) as monitor:
        monitor.attach(model, optimizer=optimizer, scaler=scaler)
        for _ in range(12):
            optimizer.zero_grad()
            scaler.scale(nn.functional.cross_entropy(model(x), y) * 100).backward()
            scaler.step(optimizer)
            scaler.update()
            monitor.step()
    assert [one for one in told if one.severity >= Severity.WARNING] == []
    assert open_run(tmp_path).series("amp_skipped")["mean"][:3].tolist() == [1.0, 1.0, 1.0]


def test_an_action_before_the_update_that_none_of_its_rules_could_be_asked_for_is_refused(tmp_path: Path) -> None:
    late = actions.skip_update(rules=["LossSpike"])
    with pytest.raises(ValueError, match="on_finding: skip_update before the update: none of its rules can be asked"):
        Monitor(tmp_path / "run", rules=True, on_finding=late)
    assert not (tmp_path / "run").exists()
    with (
        Monitor(tmp_path / "run", rules=True, on_finding=actions.skip_update()) as monitor,
        pytest.warns(RuntimeWarning, match="optimizer: an action before the update has none to wait for"),
    ):
        monitor.attach(network())
