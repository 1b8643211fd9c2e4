"""Modules of PyTorch: what went in and came out, once a step, wherever it is called from."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensometer import Monitor, open_run
from torch import nn
from torch.utils.checkpoint import checkpoint
from training import closed, l2, names, network, x_and_y


def test_inputs_predictions_and_labels(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, loss_module, (x, y) = network(), nn.CrossEntropyLoss(), x_and_y()
    monitor = every_step()
    monitor.attach(model, loss=loss_module)
    outputs = model(x)
    loss_module(outputs, y).backward()
    monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("input.0")["l2"].tolist() == [l2(x)]
    assert run.series("prediction")["l2"].tolist() == [l2(outputs)]
    assert run.series("label").key.dtype == "int64"
    assert run.series("label")["sum"].tolist() == [int(y.sum())]


def test_every_pass_if_asked(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, _) = network(), x_and_y()
    monitor = every_step("inputs", "activations", micro_batches=True)
    monitor.attach(model)
    outputs = [model(x * scale) for scale in (1, 2, 3)]
    monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("2")["l2"].tolist() == [l2(output) for output in outputs]
    assert run.series("input.0").steps.tolist() == [0, 0, 0]


def test_evaluation_inside_the_loop(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, _) = network(), x_and_y()
    monitor = every_step("activations", "inputs")
    monitor.attach(model)
    trained = model(x)
    model.eval()
    with torch.no_grad():
        evaluated = model(2 * x)
        model(3 * x)
    model.train()
    with monitor.phase("test"):
        tested = model(4 * x)
    monitor.step()
    run = closed(monitor, tmp_path)
    assert run.phases == ["train", "eval", "test"]
    for phase, output in (("train", trained), ("eval", evaluated), ("test", tested)):
        assert run.series("2", phase=phase)["l2"].tolist() == [l2(output)]


def test_checkpointed_activations_are_no_second_record(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    for reentrant in (False, True):
        model, (x, y) = network(), x_and_y()

        class Block(nn.Module):
            def __init__(self, inner: nn.Module, reentrant: bool) -> None:
                super().__init__()
                self.inner, self.reentrant = inner, reentrant

            def forward(self, x: torch.Tensor) -> Any:
                return checkpoint(self.inner, x, use_reentrant=self.reentrant)

        outer = Block(model, reentrant)
        monitor = Monitor(tmp_path / str(reentrant), every=1, strict=True, collections=["activations", "inputs"])
        monitor.attach(outer)
        nn.functional.cross_entropy(outer(x.requires_grad_()), y).backward()
        monitor.step()
        run = closed(monitor, tmp_path / str(reentrant))
        assert names(run, "activations") == ["inner.0", "inner.1", "inner.2"]
        assert all(len(run.series(name)) == 1 for name in names(run, "activations"))


def test_outputs_of_every_kind(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Pair:
        left: torch.Tensor
        right: tuple[torch.Tensor, dict[str, torch.Tensor]]

    class Inner(nn.Module):
        def forward(self, x: torch.Tensor) -> Pair:
            return Pair(x, (2 * x, {"three": 3 * x}))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: torch.Tensor, *, again: int) -> list[Pair]:
            return [self.inner(x) for _ in range(again)]

    monitor = every_step("activations")
    model = Outer()
    monitor.attach(model)
    model(torch.ones(4), again=12)
    monitor.step()
    run = closed(monitor, tmp_path)
    first = ["inner.left", "inner.right.0", "inner.right.1.three"]
    assert names(run, "activations")[:4] == [*first, "inner#1.left"]
    assert [run.series(name)["l2"][0] for name in first] == [2, 4, 6]
    assert names(run, "activations")[-1] == "inner#7.right.1.three"  # the first eight calls


def test_units(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(12, 4))
    settings = {"weights": {"units": True, "include": "weight"}, "activations": {"units": True}}
    with Monitor(tmp_path, every=1, strict=True, collections=settings) as monitor:
        monitor.attach(model)
        x = torch.randn(5, 2, 2, 2)
        middle = nn.functional.conv2d(x, model[0].weight, model[0].bias)
        model(x)
        monitor.step()
    run = open_run(tmp_path)
    channels, rows = run.series("0/units", collection="activations"), run.series("2.weight/units")
    assert channels.key.facts["units"] == 3
    assert channels["l2"].tolist() == [l2(middle[:, channel]) for channel in range(3)]
    assert rows["l2"].tolist() == [l2(row) for row in model[2].weight]
    assert run.series("1/units")["count"].tolist() == [5] * 12


def test_compiled_models(tmp_path: Path) -> None:
    results = []
    for compiled in (False, True):
        model, (x, y) = network(), x_and_y()
        called = torch.compile(model, backend="eager") if compiled else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        path = tmp_path / str(compiled)
        collections = {"activations": True, "updates": True}
        with Monitor(path, every=1, strict=True, collections=collections) as monitor:
            monitor.attach(called, optimizer=optimizer)
            for _ in range(3):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(called(x), y)
                loss.backward()
                optimizer.step()
                monitor.step(loss=loss)
        run = open_run(path)
        results.append({(k.name, k.collection): run.series(k.name, collection=k.collection) for k in run.tensors()})
        told = run.events("activations_not_seen")
        assert [event.data["modules"] for event in told] == ([["model"]] if compiled else [])
    plain, compiled_run = results
    assert {key for key in plain if key[1] != "activations"} == set(compiled_run)
    for key, series in compiled_run.items():
        if key[1] in ("weights", "gradients", "updates", "inputs"):
            assert series["l2"].tolist() == pytest.approx(plain[key]["l2"].tolist(), rel=1e-6)


def test_hooks_are_there_only_when_they_are_needed(tmp_path: Path) -> None:
    model = network()

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    with Monitor(tmp_path, every=3, collections=["activations", "inputs"]) as monitor:
        monitor.attach(model)
        counts = []
        for _ in range(6):
            counts.append(hooks())
            monitor.step()
    assert counts == [counts[0], 0, 0] * 2
    assert counts[0] > 0
    assert hooks() == 0


def test_a_module_that_is_replaced(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, _) = network(), x_and_y()
    monitor = every_step("activations")
    monitor.attach(model)
    for _ in range(2):
        outputs = model(x)
        model[2] = nn.Linear(5, 3)
        monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("2").steps.tolist() == [0, 1]
    assert run.series("2")["l2"][1] == l2(outputs)


@pytest.mark.parametrize("padding", [None, 0, 3])
def test_share_of_padding_in_tokens(every_step: Callable[..., Monitor], tmp_path: Path, padding: int | None) -> None:
    model = nn.Sequential(nn.Embedding(5, 4, padding_idx=padding), nn.Flatten(), nn.Linear(12, 2))
    monitor = every_step("inputs")
    monitor.attach(model)
    model(torch.tensor([[3, 3, 1], [3, 0, 2]]))
    monitor.step()
    run = closed(monitor, tmp_path)
    shares = {None: None, 0: 1 / 6, 3: 0.5}
    found = [run.series(key.name)["mean"].tolist() for key in run.tensors("inputs") if key.name == "input.0/padding"]
    assert found == ([] if padding is None else [[pytest.approx(shares[padding])]])


def test_replicas_of_data_parallel_are_left_out(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    """They have the hooks of the modules they were made of, and run side by side in threads."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    monitor = every_step("activations", "gradients")
    monitor.attach(model)
    for _ in range(2):
        copies = []
        for module in model:
            copies.append(module._replicate_for_data_parallel())
            copies[-1]._parameters.update(module._parameters)
        outputs = [copies[1](copies[0](torch.randn(5, 3))) for _ in range(2)]
        sum(one.sum() for one in outputs).backward()
        model(torch.randn(2, 3))
        monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("0")["count"].tolist() == [2 * 4, 2 * 4]
    assert not [key for key in run.tensors("activations") if "#" in key.name]
    assert len(run.series("0.weight", collection="gradients").steps) == 2
    events = [one.data for one in run.events() if one.kind == "activations_not_seen"]
    assert len(events) == 1
    assert "DataParallel" in events[0]["why"]
