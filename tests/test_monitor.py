"""A monitored training run: what is captured is what was there, and the run does not feel it."""

import copy
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from tensometer import Monitor, open_run
from tensometer.capture.config import DEFAULT_COLLECTIONS, CollectionConfig, MonitorConfig
from torch import nn


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(16, 20, generator=generator), torch.randint(5, (16,), generator=generator)) for _ in range(count)
    ]


@dataclass
class Step:
    """What a training loop saw at the end of a step."""

    weights: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    loss: float


def train(model: nn.Module, monitor: Monitor | None, steps: int = 10, clip: float | None = None) -> list[Step]:
    """An ordinary loop, with momentum; the monitor adds two lines."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if monitor is not None:
        monitor.attach(model, optimizer=optimizer)
    seen = []
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        if monitor is not None:
            monitor.step(loss=loss, accuracy=0.5)
        seen.append(Step(copy.deepcopy(model.state_dict()), gradients, loss.item()))
    return seen


def assert_rows(series: tensometer.Series, tensors: list[torch.Tensor]) -> None:
    """Each row is the summary of its tensor, bit for bit."""
    assert len(series) == len(tensors)
    expected = tensometer.summarize_many(tensors, histogram=True, resolution=3)
    for statistic in ("count", "zeros", "negatives", "min", "max", "mean", "var", "l1", "l2"):
        assert series[statistic].tolist() == expected.column(statistic).tolist()
    for row in range(len(series)):
        assert series.histogram(row) == expected[row].histogram


@pytest.mark.parametrize("clip", [None, 0.01])
def test_what_is_captured(tmp_path: Path, clip: float | None) -> None:
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        seen = train(network(), monitor, clip=clip)
    run = open_run(tmp_path)
    assert run.steps().tolist() == list(range(10))
    for name in ("0.weight", "2.weight"):
        assert_rows(run.series(name, collection="weights"), [step.weights[name] for step in seen])
        assert_rows(run.series(name, collection="gradients"), [step.gradients[name] for step in seen])
    for name in ("0.bias", "2.bias"):
        assert_rows(run.series(name, collection="biases"), [step.weights[name] for step in seen])
    loss, accuracy = run.series("loss"), run.series("accuracy")
    assert (loss.key.collection, accuracy.key.collection) == ("losses", "metrics")
    assert loss["mean"].tolist() == [step.loss for step in seen]
    assert accuracy["mean"].tolist() == [0.5] * 10
    key = run.series("0.weight", collection="weights").key
    assert (key.dtype, key.shape) == ("float32", (30, 20))
    assert key.facts == {"requires_grad": True, "module_type": "Linear", "optimizer": 0, "parameter_group": 0}
    assert monitor.overhead > 0
    assert monitor.dropped == 0


def test_training_is_not_changed(tmp_path: Path) -> None:
    collections = ["weights", "biases", "gradients", "activations", "losses", "metrics"]
    plain = train(network(), None)
    with Monitor(tmp_path, every=2, collections=collections) as monitor:
        watched = train(network(), monitor)
    for a, b in zip(plain, watched, strict=True):
        assert a.loss == b.loss
        assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_cadence(tmp_path: Path) -> None:
    off = dict.fromkeys(DEFAULT_COLLECTIONS, False)
    collections = off | {"weights": {"every": 2}, "losses": True}
    with Monitor(tmp_path, every=3, start=1, stop=9, collections=collections) as monitor:
        train(network(), monitor)
    run = open_run(tmp_path)
    assert run.series("0.weight").steps.tolist() == [1, 3, 5, 7]
    assert run.series("loss").steps.tolist() == [1, 4, 7]
    assert {key.collection for key in run.tensors()} == {"weights", "losses"}
    assert run.about["config"]["every"] == 3


def test_names_and_histograms_are_chosen(tmp_path: Path) -> None:
    collections = {"weights": {"include": "^2", "histogram": False}, "gradients": {"exclude": "bias"}}
    with Monitor(tmp_path, every=1, collections=collections) as monitor:
        train(network(), monitor, 2)
    run = open_run(tmp_path)
    assert [key.name for key in run.tensors("weights")] == ["2.weight"]
    assert [key.name for key in run.tensors("gradients")] == ["0.weight", "2.weight"]
    assert run.series("2.weight", collection="weights").histogram(0) is None


def test_activations(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.act = nn.ReLU(inplace=True)

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            once = self.act(self.inner(x))
            return {"y": self.inner(once), "pair": (once, 3)}

    model = nn.Sequential()
    model.add_module("twice", Twice())
    x = torch.randn(8, 4)
    with Monitor(tmp_path, every=1, collections=["activations"], strict=True) as monitor:
        monitor.attach(model)
        outputs = model(x)
        monitor.step()
    run = open_run(tmp_path)
    names = [key.name for key in run.tensors()]
    assert names == ["twice.inner", "twice.act", "twice.inner#1", "twice.y", "twice.pair.0"]
    assert run.series("twice.y")["l2"][0] == tensometer.summarize(outputs["y"]).l2
    assert run.series("twice.act")["zeros"][0] > 0
    # The linear layer's own output, before the activation overwrote it.
    assert run.series("twice.inner")["negatives"][0] > 0
    assert run.series("twice.act").key.facts == {"module_type": "ReLU", "unit_axis": -1}
    model(x)
    assert monitor.current_step == 1  # closed: the hooks are gone


def test_without_an_optimizer(tmp_path: Path) -> None:
    model = network()
    with Monitor(tmp_path, every=1, collections=["gradients"]) as monitor:
        monitor.attach(model, name="net")
        model[0].requires_grad_(False)
        model(torch.ones(2, 20)).sum().backward()
        monitor.step()
    run = open_run(tmp_path)
    assert [key.name for key in run.tensors()] == ["net.2.weight", "net.2.bias"]


def test_tied_parameters_are_captured_once(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    with Monitor(tmp_path, every=1) as monitor:
        monitor.attach(model)
        monitor.step()
    (key,) = open_run(tmp_path).tensors("weights")
    assert (key.name, key.facts["tied_names"]) == ("0.weight", ["1.weight"])


def test_phases_and_records(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1) as monitor:
        monitor.record("x", np.arange(4.0))
        with monitor.phase("eval"):
            monitor.record("x", torch.ones(2))
        monitor.step(val_loss=torch.tensor(2.0))
    run = open_run(tmp_path)
    assert run.phases == ["train", "eval"]
    assert run.series("x", phase="train")["max"].tolist() == [3]
    assert run.series("x", phase="eval")["count"].tolist() == [2]
    assert run.series("val_loss").key.collection == "losses"


def test_a_run_goes_on_behind_its_last_step(tmp_path: Path) -> None:
    for first in (0, 3):
        with Monitor(tmp_path, every=1) as monitor:
            assert monitor.current_step == first
            for _ in range(3):
                monitor.step(loss=1.0)
    assert open_run(tmp_path).series("loss").steps.tolist() == list(range(6))


def test_names_that_are_near(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1) as monitor:
        train(network(), monitor, 1)
    with pytest.raises(KeyError, match=r"'0.weigh' was not recorded; the nearest are 0\.weight, 2\.weight"):
        open_run(tmp_path).series("0.weigh")


def broken_loss(monitor: Monitor) -> None:
    monitor.step(loss=torch.ones(3))


def broken_record(monitor: Monitor) -> None:
    monitor.record("x", "no tensor")


@pytest.mark.parametrize("breaks", [broken_loss, broken_record])
def test_errors_of_capture_are_one_warning(tmp_path: Path, breaks: Callable[[Monitor], None]) -> None:
    monitor = Monitor(tmp_path / "a", every=1)
    with pytest.warns(RuntimeWarning, match=r"step 0 could not be captured: .*; training goes on"):
        breaks(monitor)
    with warnings.catch_warnings(record=True) as others:
        breaks(monitor)
        seen = train(network(), monitor, 3)
    monitor.close()
    assert not others
    assert len(seen) == 3
    assert open_run(tmp_path / "a").series("0.weight", collection="weights").steps.tolist()
    with Monitor(tmp_path / "b", every=1, strict=True) as strict, pytest.raises((TypeError, ValueError, RuntimeError)):
        breaks(strict)


@pytest.mark.filterwarnings("ignore:tensometer")
def test_a_place_that_takes_nothing_stops_no_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monitor = Monitor(tmp_path / "file" / "run", every=1, flush_seconds=0.01)
    assert len(train(network(), monitor, 5)) == 5
    monitor._writer.close(0.2)
    monitor.close()
    assert monitor.dropped > 0


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"evry": 3}, ValueError, "config: 'evry' is unknown; did you mean 'every'?"),
        ({"every": 0}, ValueError, "every: 0 is less than 1"),
        ({"every": 1.5}, TypeError, "every: 1.5 is not a whole number"),
        ({"stop": "9"}, TypeError, "stop: '9' is not a whole number"),
        ({"collections": ["weight"]}, ValueError, "'weight' is unknown; did you mean 'weights'?"),
        ({"collections": 5}, TypeError, "collections: 5 is neither a list of names nor a mapping"),
        ({"collections": {"weights": 3}}, TypeError, "collections.weights: 3 is neither true, false nor a mapping"),
        ({"collections": {"weights": {"incl": "x"}}}, ValueError, "collections.weights: 'incl' is unknown"),
        ({"collections": {"weights": {"include": "("}}}, ValueError, "include: '(' is not a regular expression"),
        ({"collections": {"weights": {"histogram": 3}}}, ValueError, "histogram: 3 is not True"),
        ({"config": [1]}, (TypeError, ValueError), ""),
        ({"rank": 3, "world_size": 2}, ValueError, "rank: 3 is not from 0 to 1"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error) as caught:
        Monitor(tmp_path / "run", **settings)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_settings_as_plain_values() -> None:
    config = MonitorConfig(every=7, collections={"weights": CollectionConfig(include="a", every=2)})
    assert MonitorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert MonitorConfig.from_dict({}) == MonitorConfig()


def test_a_scalar_that_is_no_number_takes_nothing_with_it(tmp_path: Path) -> None:
    values = {"loss": torch.tensor(float("nan")), "val_loss": None, "accuracy": 0.5}
    with Monitor(tmp_path, every=1) as monitor:
        monitor.attach(network())
        with pytest.warns(RuntimeWarning, match="val_loss: None is not a number"):
            monitor.step(**values)
        monitor.step(**values)
    run = open_run(tmp_path)
    assert [run.series(name).steps.tolist() for name in ("accuracy", "0.bias", "loss")] == [[0, 1]] * 3
    assert [event.data["losses"] for event in run.events("nonfinite")] == [{"loss": "nan"}] * 2
    (problem,) = run.events("problem")
    assert "val_loss" in problem.data["error"]


def test_a_model_that_cannot_be_captured_takes_no_other_with_it(tmp_path: Path) -> None:
    class Hidden(nn.Linear):
        def named_buffers(self, *args: Any, **more: Any) -> Any:
            raise LookupError("no buffers here")

    with Monitor(tmp_path, every=1) as monitor:
        monitor.attach(Hidden(2, 2), name="first")
        monitor.attach(nn.Linear(2, 2), name="second")
        with pytest.warns(RuntimeWarning, match="no buffers here"):
            monitor.step(loss=1.0)
    names = [key.name for key in open_run(tmp_path).tensors("weights")]
    assert names == ["first.weight", "second.weight"]


def test_each_model_has_a_name(tmp_path: Path) -> None:
    generator, critic = nn.Linear(4, 1), nn.Linear(2, 1)
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        monitor.attach(generator)
        with pytest.raises(ValueError, match="name: '' is that of another model; give each its own"):
            monitor.attach(critic)
        monitor.attach(critic, name="critic")
        monitor.attach(generator, name="generator")  # anew: not twice
        monitor.step()
        monitor.detach(generator)
        monitor.step()
        monitor.attach(nn.Linear(3, 1), name="generator")
        monitor.step()
    run = open_run(tmp_path)
    found = {key.name: run.series(key.name, collection="weights") for key in run.tensors("weights")}
    assert {name: series.steps.tolist() for name, series in found.items()} == {
        "critic.weight": [0, 1, 2],
        "generator.weight": [0, 2],
    }
    assert found["generator.weight"]["count"].tolist() == [4, 3]


def test_a_tensor_that_is_recorded_is_read_once(tmp_path: Path) -> None:
    class Counted:
        reads = 0

        @property
        def __array_interface__(self) -> dict[str, Any]:
            Counted.reads += 1
            return np.ones(3).__array_interface__

    with Monitor(tmp_path, every=1, strict=True) as monitor:
        summaries = Counted()
        tensometer.summarize(summaries)
        once = Counted.reads
        monitor.record("x", summaries)
        assert Counted.reads == 2 * once


def test_ranks_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with Monitor(tmp_path, every=1) as monitor:
        monitor.step(loss=1.0)
    run = open_run(tmp_path)
    assert (run.ranks, run.about["world_size"]) == ([1], 2)


def test_overhead_counts_nothing_twice(tmp_path: Path) -> None:
    class Slow(nn.Linear):
        def named_buffers(self, *args: Any, **more: Any) -> Any:
            time.sleep(0.2)
            return super().named_buffers(*args, **more)

    with Monitor(tmp_path, every=1) as monitor:
        monitor.attach(Slow(2, 2))
        begin = time.monotonic()
        monitor.step()
        assert 0.2 <= monitor.overhead <= time.monotonic() - begin
