"""The default rules over a healthy training of a model of 1000 tensors: beside it, and over what it has stored."""

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensometer
from tensometer._core import summarize_units
from tensometer.judge import Judge
from tensometer.replay import evaluate
from tensometer.rules import Finding, Rule, default
from tensometer.store import Record, RunWriter, TensorKey

from benchmarks import answers
from benchmarks.harness import Case, Side
from benchmarks.scale import Scale

TENSORS = 1000
# So many steps are made; longer runs repeat them.
_MADE = 10
_WIDTH = 16
_MOVE = 1e-3
_OWNED = {"requires_grad": True, "module_type": "Linear", "optimizer": 0, "parameter_group": 0}
_SCALE = {"weights": 0.1, "biases": 0.1, "gradients": 1e-2, "updates": 1e-4, "activations": 1.0}


class _Network:
    """What a monitor captures of some layers of a weight, a bias and a ReLU each, if rules ask for all of it."""

    def __init__(self, tensors: int) -> None:
        layers = range(tensors // 2)
        weights = [f"layers.{i}.weight" for i in layers]
        biases = [f"layers.{i}.bias" for i in layers]
        outputs = [f"relus.{i}" for i in layers]
        square, flat, batch = (_WIDTH, _WIDTH), (_WIDTH,), (32, _WIDTH)
        relu = {"module_type": "ReLU", "unit_axis": -1}
        self.keys = [
            *(_keys(weights, "weights", square, _OWNED), _keys(biases, "biases", flat, _OWNED)),
            *(_keys(weights, collection, square, _OWNED) for collection in ("gradients", "updates")),
            *(_keys(biases, collection, flat, _OWNED) for collection in ("gradients", "updates")),
            _keys(outputs, "activations", batch, relu),
        ]
        self.numbers = [
            *(
                (_said(names, "updates", what, _OWNED), low, high)
                for names in (weights, biases)
                for what, low, high in (("ratio", 1e-3, 2e-3), ("changed_fraction", 1, 1), ("cosine", -0.1, 0.1))
            ),
            (_said(weights, "weights", "identical_units", _OWNED), 0, 0),
            (_said(outputs, "activations", "inactive_units", relu), 0, 0.2),
            (_said(outputs, "activations", "constant_units", relu), 0, 0.2),
            (_said(outputs, "activations", "unit_spread", relu), 0.5, 1),
            ([TensorKey("loss", "losses", "float64", ())], 0.9, 1.1),
            ([TensorKey("learning_rate/0", "loop", "float64", ())], 1e-3, 1e-3),
            ([TensorKey("optimizer_steps", "loop", "float64", ())], 1, 1),
            ([TensorKey("gradient_norm", "loop", "float64", ())], 0.9, 1.1),
        ]
        self.rows = sum(map(len, self.keys)) + sum(len(keys) for keys, _, _ in self.numbers)

    def step(self, number: int) -> list[Record]:
        """One step of a training that goes on evenly: weights move a little, everything else is drawn anew."""
        rng, first = np.random.default_rng(number + 1), np.random.default_rng(0)
        records = []
        for keys in self.keys:
            scale = _SCALE[keys[0].collection]
            arrays = [(rng.standard_normal(key.shape) * scale).astype(np.float32) for key in keys]
            if keys[0].collection in ("weights", "biases"):
                arrays = [
                    first.standard_normal(key.shape, np.float32) * scale + _MOVE * one
                    for key, one in zip(keys, arrays, strict=True)
                ]
            if keys[0].collection == "activations":
                arrays = [np.maximum(array, 0) for array in arrays]
            records.append(Record(number, float(number), "train", keys, tensometer.summarize_many(arrays)))
        for keys, low, high in self.numbers:
            table = summarize_units(rng.uniform(low, high, len(keys)), 0)
            records.append(Record(number, float(number), "train", keys, table))
        return records


def _keys(names: Sequence[str], collection: str, shape: tuple[int, ...], facts: dict[str, Any]) -> list[TensorKey]:
    return [TensorKey(name, collection, "float32", shape, facts) for name in names]


def _said(names: Sequence[str], collection: str, what: str, facts: dict[str, Any]) -> list[TensorKey]:
    return [TensorKey(f"{name}/{what}", collection, "float64", (), facts) for name in names]


def _at(records: Sequence[Record], step: int) -> list[Record]:
    return [Record(step, float(step), one.phase, one.keys, one.table) for one in records]


def _none(findings: Sequence[Finding]) -> None:
    answers.same("findings in a healthy run", [str(one) for one in findings if one.severity >= 2], [])


def beside(scale: Scale) -> Case:
    """A step of a running training is judged. The first one, which learns where everything is, is not timed."""
    network = _Network(20 if scale.rounds == 1 else TENSORS)
    made = [network.step(number) for number in range(_MADE)]
    judges: list[Judge] = []
    numbers = itertools.count()

    def judge(found: list[Finding]) -> Judge:
        def told(rule: Rule, error: Exception) -> None:
            raise error

        return Judge(default(), rank=0, found=found.append, told=told)

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        judges[:] = [judge([])]
        observe()
        yield

    def observe() -> None:
        number = next(numbers)
        judges[0].observe(_at(made[number % _MADE], number), [])

    def check() -> None:
        found: list[Finding] = []
        one = judge(found)
        for number in range(3 * _MADE):
            one.observe(_at(made[number % _MADE], number), [])
        _none(found)

    return Case(network.rows, 4 * network.rows, (Side("rules beside a step", observe, context),), check)


def stored(scale: Scale) -> Case:
    """Rules over 1,000,000 summaries, one core; and the same without a rule: what reading alone takes."""
    network = _Network(20 if scale.rounds == 1 else TENSORS)
    steps = 2 * _MADE if scale.rounds == 1 else -(-1_000_000 // network.rows)
    folder = tempfile.TemporaryDirectory()
    made = [network.step(number) for number in range(_MADE)]
    writer = RunWriter(folder.name, queue_bytes=1 << 40)
    for step in range(steps):
        writer.submit(*_at(made[step % _MADE], step))
    answers.same("whether all was stored", writer.close(600.0), True)

    def judge(rules: object) -> list[Finding]:
        # The folder lives as long as this function.
        return evaluate(folder.name, rules)

    rows = network.rows * steps
    sides = (Side("default rules", lambda: judge(True)), Side("no rules", lambda: judge([])))
    return Case(rows, 4 * rows, sides, lambda: _none(judge(True)))


CASES = {"rules beside a step of 1000 tensors": beside, "rules over 1,000,000 summaries": stored}
