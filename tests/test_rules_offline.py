"""Every rule says the same of a run from disk as it said beside the training, and goes on from what it saved."""

import dataclasses
import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensometer import Monitor, open_run
from tensometer.reference import reference_steps
from tensometer.replay import evaluate
from tensometer.rules import Condition, Engine, Finding, Rule, State, Step, default
from torch import nn

STEPS = 30


class Grows(Rule):
    """A weight's norm did not shrink: finds something in every run, and remembers all kinds of values."""

    needs = ("weights",)

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare with the step before."""
        rows = step.group("weights")
        before = state.of_tensors("norms", len(step.catalogue), np.inf)
        grown = rows["l2"] >= before[rows.ids]
        before[rows.ids] = rows["l2"]
        state["count"] = state.get("count", 0) + int(grown.sum())
        state["steps"] = [*state.get("steps", []), step.number]
        state["text"] = f"{state['count']} in {len(state['steps'])}"
        yield Condition(rows, grown, "{tensor} did not shrink: {text}", rows["l2"], 0.0, {"text": state["text"]})


def eager() -> list[Rule]:
    """The default set without its patience: it finds much more, and often."""
    return [dataclasses.replace(rule, patience=1, warmup=0, cooldown=3) for rule in [*default(), Grows()]]


def layers(activation: Callable[[], nn.Module], depth: int = 3, width: int = 16) -> nn.Sequential:
    sizes = [8, *[width] * depth]
    parts = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*parts, nn.Linear(width, 3))


class Attends(nn.Module):
    """A transformer's layer over tokens, with an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = (x * 3).long() % 20
        return self.head(self.layer(self.embedding(tokens)).mean(dim=1))


def dead_relu() -> nn.Module:
    model = layers(nn.ReLU)
    nn.init.constant_(model[2].bias, -100.0)
    return model


def frozen() -> nn.Module:
    model = layers(nn.Tanh)
    model[0].requires_grad_(False)
    return model


def convolves() -> nn.Module:
    shaped = nn.Unflatten(1, (1, 8))
    return nn.Sequential(
        shaped, nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.GELU(), nn.Flatten(), nn.Dropout(), nn.Linear(24, 3)
    )


@dataclasses.dataclass(frozen=True)
class Training:
    """A model, what it is trained with, and what is wrong with it."""

    model: Callable[[], nn.Module]
    rate: float = 0.01
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam
    every: int = 1
    spoil: Callable[[int, torch.Tensor], torch.Tensor] = lambda number, x: x
    clear: bool = True


TRAININGS = {
    "healthy": Training(lambda: layers(nn.ReLU)),
    "deep sigmoid": Training(lambda: layers(nn.Sigmoid, depth=12), optimizer=torch.optim.SGD),
    "dead relu": Training(dead_relu),
    "explodes": Training(lambda: layers(nn.ReLU), rate=1e4, optimizer=torch.optim.SGD),
    "far too small a rate": Training(lambda: layers(nn.Tanh), rate=1e-12),
    "frozen": Training(frozen),
    "not cleared": Training(lambda: layers(nn.Tanh), clear=False),
    "a nan": Training(lambda: layers(nn.ReLU), spoil=lambda number, x: x * np.nan if number == 20 else x),
    "a bad batch": Training(lambda: layers(nn.ReLU), spoil=lambda number, x: x * 1e3 if number == 20 else x),
    "constant inputs": Training(lambda: layers(nn.ReLU), spoil=lambda number, x: torch.ones_like(x)),
    "not normalized": Training(lambda: layers(nn.ReLU), spoil=lambda number, x: 100 + 50 * x),
    "convolution": Training(convolves),
    "attention": Training(Attends, every=3),
}


def train(path: Path, training: Training, rules: list[Rule], steps: int = STEPS) -> list[Finding]:
    """What the rules find while it trains."""
    found: list[Finding] = []
    torch.manual_seed(0)
    model, loss_module = training.model(), nn.CrossEntropyLoss()
    optimizer = training.optimizer((one for one in model.parameters() if one.requires_grad), lr=training.rate)
    with Monitor(path, every=training.every, strict=True, rules=rules, on_finding=found.append) as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for number in range(steps):
            x = training.spoil(number, torch.randn(16, 8))
            y = (x[:, 0] > 0).long() + (x[:, 1] > 1).long()
            if training.clear:
                optimizer.zero_grad()
            loss = loss_module(model.train()(x), y)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                monitor.step(loss=loss, validation_loss=loss_module(model.eval()(x), y))
    return found


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("rules", [default, eager])
@pytest.mark.parametrize("name", TRAININGS)
def test_a_run_from_disk_gives_the_findings_of_the_training(
    tmp_path: Path, name: str, rules: Callable[[], list[Rule]]
) -> None:
    live = train(tmp_path, TRAININGS[name], rules())
    assert evaluate(tmp_path, rules()) == live
    assert [Finding.from_dict(event.data) for event in open_run(tmp_path).events("finding")] == live


def test_a_run_that_was_continued(tmp_path: Path) -> None:
    live = [one for _ in range(2) for one in train(tmp_path, TRAININGS["deep sigmoid"], eager(), steps=8)]
    assert evaluate(tmp_path, eager()) == live
    assert max(one.step for one in live) >= 8


def saved(values: dict[str, Any]) -> tuple[str, bytes]:
    """What an engine remembers, as JSON and npz: nothing else may be in it."""
    arrays: dict[str, Any] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[str(len(arrays))] = value
            return {"array": str(len(arrays) - 1)}
        if isinstance(value, dict):
            assert all(isinstance(key, str) for key in value), f"JSON has no such keys: {list(value)}"
            return {key: plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, list) else value

    file = io.BytesIO()
    text = json.dumps(plain(values))
    np.savez(file, **arrays, allow_pickle=False)
    return text, file.getvalue()


def loaded(text: str, file: bytes) -> Any:
    """What saved() was given."""
    arrays = np.load(io.BytesIO(file), allow_pickle=False)
    return json.loads(text, object_hook=lambda one: arrays[one["array"]] if set(one) == {"array"} else one)


@pytest.mark.parametrize("name", TRAININGS)
def test_an_engine_goes_on_from_what_it_saved(tmp_path: Path, name: str) -> None:
    rules = eager()
    train(tmp_path, TRAININGS[name], rules)
    whole, first = Engine(rules), Engine(rules)
    expected = [whole.judge(step) for step in reference_steps(str(tmp_path), 0, whole.catalogue)]
    middle = len(expected) // 2
    found = []
    for at, step in enumerate(reference_steps(str(tmp_path), 0, first.catalogue)):
        if at < middle:
            found.append(first.judge(step))
    second = Engine(rules)
    second.restore(loaded(*saved(first.values())))
    for at, step in enumerate(reference_steps(str(tmp_path), 0, second.catalogue)):
        if at >= middle:
            found.append(second.judge(step))
    assert found == expected
    assert any(expected)
