"""Gradients are those that the optimizer used, once, whatever else the loop does with them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensometer import Monitor, open_run
from torch import nn
from training import closed, l2, names, network, x_and_y


def test_gradients_of_accumulated_passes(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = every_step("gradients", "inputs", "activations", "loop")
    monitor.attach(model, optimizer=optimizer)
    for part in range(4):
        nn.functional.cross_entropy(model(x * (part + 1)), y).backward()
    expected = l2(model[0].weight.grad)
    optimizer.step()
    optimizer.zero_grad()
    monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("0.weight")["l2"].tolist() == [expected]
    assert run.series("input.0")["l2"].tolist() == [l2(x)]
    assert names(run, "activations") == ["0", "1", "2"]
    assert len(run.series("0")) == 1


@pytest.mark.parametrize("largest", [1e9, 0.01])
def test_norms_before_and_after_clipping(every_step: Callable[..., Monitor], tmp_path: Path, largest: float) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = every_step(clipping=True)
    monitor.attach(model, optimizer=optimizer)
    nn.functional.cross_entropy(model(x), y).backward()
    before = nn.utils.clip_grad_norm_(model.parameters(), largest).item()
    optimizer.step()
    monitor.step()
    run = closed(monitor, tmp_path)
    after = min(before, largest)
    assert run.series("gradient_norm_before_clipping")["mean"][0] == pytest.approx(before, rel=1e-5)
    assert run.series("gradient_norm")["mean"][0] == pytest.approx(after, rel=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_unscaled(every_step: Callable[..., Monitor], tmp_path: Path, fused: bool) -> None:
    model, (x, y) = network(), x_and_y()
    nn.functional.cross_entropy(model(x), y).backward()
    expected = [l2(parameter.grad) for parameter in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    optimizer.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    monitor = every_step(clipping=True)
    monitor.attach(model, optimizer=optimizer, scaler=scaler)
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(model(x), y) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        monitor.step()
    run = closed(monitor, tmp_path)
    norms = [run.series(n, collection="gradients")["l2"][0] for n in ("0.weight", "0.bias", "2.weight", "2.bias")]
    assert norms == pytest.approx(expected, rel=1e-6)
    assert run.series("amp_scale")["mean"].tolist() == [1024, 1024, 512]
    assert run.series("amp_skipped")["mean"].tolist() == [0, 1, 0]
    # The step that was skipped shows why.
    gradient = run.series("0.weight", collection="gradients")
    assert gradient.steps.tolist() == [0, 1, 2]
    assert gradient["nan"][1] + gradient["posinf"][1] + gradient["neginf"][1] > 0
    assert run.series("gradient_norm_before_clipping")["mean"][0] == pytest.approx(
        run.series("gradient_norm")["mean"][0], rel=1e-6
    )


def test_gradients_that_are_zeroed_before_the_step_ends(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    with_optimizer = every_step()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with_optimizer.attach(model, optimizer=optimizer)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    with_optimizer.step()
    run = closed(with_optimizer, tmp_path)
    assert len(names(run, "gradients")) == 4
    assert run.events("gradients_missing") == []


def test_gradients_that_nobody_can_see(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    """Without an optimizer those at the end of the step are all that is known."""
    model, (x, y) = network(), x_and_y()
    monitor = every_step()
    monitor.attach(model)
    for _ in range(2):
        nn.functional.cross_entropy(model(x), y).backward()
        model.zero_grad()
        monitor.step()
    (missing,) = closed(monitor, tmp_path).events("gradients_missing")
    assert missing.data == {"parameters": ["0.weight", "0.bias", "2.weight", "2.bias"]}


@pytest.mark.parametrize("collections", [["gradients"], ["gradients", "loop"]])
def test_gradients_that_amp_has_skipped(
    every_step: Callable[..., Monitor], tmp_path: Path, collections: list[str]
) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    monitor = every_step(*collections)
    monitor.attach(model, optimizer=optimizer, scaler=scaler)
    for zeroed in (False, True):
        scaler.scale(nn.functional.cross_entropy(model(x), y) * float("inf")).backward()
        scaler.step(optimizer)
        scaler.update()
        if zeroed:
            optimizer.zero_grad()
        monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("0.weight").steps.tolist() == [0]
    assert run.events("gradients_missing") == []


def test_a_norm_of_some_gradients_is_no_norm(tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"gradients": {"include": "^0"}}
    with Monitor(tmp_path, every=1, strict=True, clipping=True, collections=settings) as monitor:
        monitor.attach(model, optimizer=optimizer)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        monitor.step()
    run = open_run(tmp_path)
    assert names(run, "gradients") == ["0.weight", "0.bias"]
    assert "gradient_norm" not in names(run, "loop")
    assert "gradient_norm_before_clipping" in names(run, "loop")


def test_accumulation_over_steps_of_the_monitor(tmp_path: Path) -> None:
    """What was due before the optimizer stepped is captured in the step in which it does, of all passes together."""
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = {}
    collections = ["gradients", "updates", "loop", "weights"]
    with Monitor(tmp_path, every=5, strict=True, clipping=True, recorder=3, collections=collections) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for number in range(16):
            nn.functional.cross_entropy(model(x), y).backward()
            if number % 4 == 3:
                expected[number] = l2(model[0].weight.grad)
                optimizer.step()
                optimizer.zero_grad()
            monitor.step()
    run = open_run(tmp_path)
    gradients = run.series("0.weight", collection="gradients")
    assert dict(zip(gradients.steps.tolist(), gradients["l2"].tolist(), strict=True)) == {
        number: expected[number] for number in (3, 7, 11, 15)
    }
    assert run.series("0.weight", collection="updates").steps.tolist() == [3, 7, 11, 15]
    assert run.series("0.weight", collection="weights").steps.tolist() == [0, 5, 10, 15]
    steps = run.series("optimizer_steps")
    assert steps.steps.tolist() == [0, 3, 5, 7, 10, 11, 15]
    assert steps["mean"].tolist() == [0, 1, 0, 1, 0, 1, 1]
    for name in ("gradient_norm", "gradient_norm_before_clipping"):
        assert run.series(name).steps.tolist() == [3, 7, 11, 15]
    norms = [run.series(name)["mean"].tolist() for name in ("gradient_norm", "gradient_norm_before_clipping")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_the_norm_before_clipping_after_a_backward_pass_that_raised(
    every_step: Callable[..., Monitor], tmp_path: Path
) -> None:
    model, (x, y) = network(), x_and_y()

    def raising(_: torch.Tensor) -> None:
        raise MemoryError

    monitor = every_step("loop", clipping=True)
    monitor.attach(model)
    for raises in (False, True, False):
        hidden = model[0](x)
        if raises:
            hidden.register_hook(raising)
        loss = nn.functional.cross_entropy(model[2](hidden), y)
        if raises:
            with pytest.raises(MemoryError):
                loss.backward()
        else:
            loss.backward()
        monitor.step()
    assert closed(monitor, tmp_path).series("gradient_norm_before_clipping").steps.tolist() == [0, 2]


def test_the_norm_before_clipping_of_other_parameters(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    monitor = every_step("loop", clipping=True)
    monitor.attach(model)
    for number in range(3):
        nn.functional.cross_entropy(model(x), y).backward()
        monitor.step()
        if number == 0:
            model.load_state_dict({name: one.clone() for name, one in model.state_dict().items()}, assign=True)
    # What replaces parameters in the midst of a step is seen in the next.
    assert closed(monitor, tmp_path).series("gradient_norm_before_clipping").steps.tolist() == [0, 2]


def test_sparse_gradients(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model = nn.Embedding(100, 4, sparse=True)
    optimizer = torch.optim.SparseAdam(model.parameters())
    monitor = every_step("gradients", "weights")
    monitor.attach(model, optimizer=optimizer)
    model(torch.tensor([3, 5, 3])).sum().backward()
    optimizer.step()
    monitor.step()
    gradient = closed(monitor, tmp_path).series("weight", collection="gradients")
    assert gradient["sum"].tolist() == pytest.approx([12])
    assert (gradient["count"].tolist(), gradient["zeros"].tolist()) == ([400], [392])


def test_optimizers_that_call_a_closure(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)
    monitor = every_step("gradients", "updates")
    monitor.attach(model, optimizer=optimizer)
    first: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        first.append(l2(model[0].weight.grad))
        return loss

    before = model[0].weight.detach().clone()
    optimizer.step(closure)
    monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("0.weight", collection="gradients")["l2"].tolist() == first[:1]
    assert run.series("0.weight", collection="updates")["l2"].tolist() == [l2(model[0].weight.detach() - before)]


def test_what_backward_adds_after_the_step_is_not_clipped(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    """As a generator's backward pass does to the discriminator's gradients."""
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = every_step(clipping=True)
    monitor.attach(model, optimizer=optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        (-10 * model(x).mean()).backward()
        monitor.step()
    run = closed(monitor, tmp_path)
    norms = [run.series(name)["mean"].tolist() for name in ("gradient_norm", "gradient_norm_before_clipping")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-12)


def test_a_skipped_step_before_the_scaler_is_updated(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    monitor = every_step("gradients", "loop")
    monitor.attach(model, optimizer=optimizer, scaler=scaler)
    for step in range(4):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss * float("inf") if step == 1 else loss).backward()
        scaler.step(optimizer)
        monitor.step()
        scaler.update()
    run = closed(monitor, tmp_path)
    assert run.series("amp_skipped")["mean"].tolist() == [0, 1, 0, 0]
    assert run.series("amp_scale")["mean"].tolist() == [1024, 1024, 512, 512]
    assert run.series("0.weight").steps.tolist() == [0, 1, 2, 3]
