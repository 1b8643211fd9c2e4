"""Gradients that are not cleared, in every way to train that PyTorch has, and in those that look alike."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from rule_steps import Bench, names
from tensometer import Finding, Monitor
from tensometer.rules.gradients_not_cleared import GradientsNotCleared
from torch import nn
from torch.optim import Optimizer
from training import network, x_and_y

Make = Callable[..., Optimizer]
Clear = Callable[[Optimizer], None]


def sgd(parameters: Iterator[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def fused(parameters: Iterator[nn.Parameter]) -> Optimizer:
    return torch.optim.Adam(parameters, lr=0.001, fused=True)


def to_none(optimizer: Optimizer) -> None:
    optimizer.zero_grad()


def to_zero(optimizer: Optimizer) -> None:
    optimizer.zero_grad(set_to_none=False)


def past_the_count(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.data.zero_()


def fade(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.mul_(0.5)


def leave(optimizer: Optimizer) -> None:
    pass


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Monitor, list[Finding]]]:
    found: list[Finding] = []
    with Monitor(tmp_path, every=1, rules=[GradientsNotCleared()], on_finding=found.append) as monitor:
        yield monitor, found


Watched = tuple[Monitor, list[Finding]]


def train(watched: Watched, make: Make, clear: Clear, *, passes: int = 1, clip: float | None = None) -> list[Finding]:
    monitor, found = watched
    model, (x, y) = network(), x_and_y()
    optimizer = make(model.parameters())
    monitor.attach(model, optimizer=optimizer)
    for _ in range(6):
        clear(optimizer)
        for _ in range(passes):
            nn.functional.cross_entropy(model(x), y).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        monitor.step()
    return found


@pytest.mark.parametrize("make", [sgd, fused])
@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_what_is_never_cleared_is_found_at_the_third_step(
    watched: Watched, make: Make, passes: int, clip: float | None
) -> None:
    (finding,) = train(watched, make, leave, passes=passes, clip=clip)
    assert (finding.rule, finding.step, finding.value) == ("GradientsNotCleared", 2, 2)
    assert finding.sentence.startswith("gradients were not cleared before 2 updates in a row")


@pytest.mark.parametrize("make", [sgd, fused])
@pytest.mark.parametrize("clear", [to_none, to_zero, past_the_count, fade])
@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_whatever_clears_is_healthy(
    watched: Watched, make: Make, clear: Clear, passes: int, clip: float | None
) -> None:
    assert train(watched, make, clear, passes=passes, clip=clip) == []


@pytest.mark.parametrize("cleared", [True, False])
def test_gradients_computed_in_a_closure(watched: Watched, cleared: bool) -> None:
    monitor, found = watched
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    monitor.attach(model, optimizer=optimizer)

    def closure() -> torch.Tensor:
        if cleared:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
        monitor.step()
    assert list(names(found)) == ([] if cleared else ["GradientsNotCleared"])


@pytest.mark.parametrize("cleared", [True, False])
def test_of_two_optimizers_the_one_that_is_never_cleared(watched: Watched, cleared: bool) -> None:
    monitor, found = watched
    model, (x, y) = network(), x_and_y()
    optimizers = [sgd(model[0].parameters()), sgd(model[2].parameters())]
    monitor.attach(model, optimizer=optimizers)
    for _ in range(4):
        optimizers[0].zero_grad()
        if cleared:
            optimizers[1].zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
        monitor.step()
    assert [finding.tensor for finding in found] == ([] if cleared else ["1/uncleared_updates/0"])


@pytest.mark.parametrize("clear", [to_none, to_zero])
def test_what_another_loss_leaves_behind_is_cleared_before_it_is_used(watched: Watched, clear: Clear) -> None:
    monitor, found = watched
    generator, critic, (x, _) = network(), nn.Linear(3, 1), x_and_y()
    optimizers = [sgd(generator.parameters()), sgd(critic.parameters())]
    monitor.attach(nn.Sequential(generator, critic), optimizer=optimizers)
    for _ in range(5):
        for sign, optimizer in zip((1, -1), optimizers, strict=True):
            clear(optimizer)
            (sign * critic(generator(x)).mean()).backward()
            optimizer.step()
        monitor.step()
    assert found == []


def test_gradients_that_the_loop_writes_by_itself(watched: Watched) -> None:
    monitor, found = watched
    model, (x, y) = network(), x_and_y()
    optimizer = sgd(model.parameters())
    monitor.attach(model, optimizer=optimizer)
    for _ in range(5):
        parameters = list(model.parameters())
        computed = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), parameters)
        for parameter, gradient in zip(parameters, computed, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad.copy_(gradient)
        optimizer.step()
        monitor.step()
    assert found == []


def test_a_parameter_that_is_trained_no_more_is_watched_no_more(watched: Watched) -> None:
    monitor, found = watched
    model, (x, y) = network(), x_and_y()
    optimizer = sgd(model.parameters())
    monitor.attach(model, optimizer=optimizer)
    for step in range(8):
        if step == 2:  # the smallest of all
            model[2].bias.requires_grad_(False)
            model[2].bias.grad = None
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if step < 4:
            optimizer.zero_grad()
        monitor.step()
    assert [(finding.rule, finding.step) for finding in found] == [("GradientsNotCleared", 6)]


def test_it_is_found_at_a_captured_step_however_far_apart_those_are(tmp_path: Path) -> None:
    found: list[Finding] = []
    with Monitor(tmp_path, every=10, rules=True, on_finding=found.append) as monitor:
        train((monitor, found), sgd, leave)
        assert not found
        monitor.step()
    with Monitor(tmp_path / "more", every=5, rules=True, on_finding=found.append) as monitor:
        train((monitor, found), sgd, leave)
    assert [(one.rule, one.step) for one in found if one.rule == "GradientsNotCleared"] == [("GradientsNotCleared", 5)]


def test_detaching_leaves_no_hook(tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = sgd(model.parameters())
    with Monitor(tmp_path, every=1) as monitor:
        monitor.attach(model, optimizer=optimizer)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        monitor.step()
    parameters = list(model.parameters())
    assert not any(one._backward_hooks or one._post_accumulate_grad_hooks for one in parameters)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_groups_are_judged_by_their_numbers() -> None:
    bench = Bench(GradientsNotCleared(updates=3))
    assert bench.step(loop={"uncleared_updates/0": 2.0, "uncleared_updates/1": 0.0}) == []
    (finding,) = bench.step(loop={"uncleared_updates/0": 2.0, "uncleared_updates/1": 3.0})
    assert (finding.tensor, finding.value, finding.threshold) == ("uncleared_updates/1", 3, 3)
