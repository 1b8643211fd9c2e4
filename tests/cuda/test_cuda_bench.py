"""The bench over CPU tensors: everything of it but a device's clock."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from tensometer import _core
from tensometer.cuda import bench, bench_cases, bench_timing, bench_training
from tensometer.cuda.bench_timing import Case, Spread, Time, WrongAnswerError

CPU = torch.device("cpu")
SCALE = bench_training.Scale(width=16, layers=1, batch=2, tokens=4, hidden=16)
SMALL = bench.Sizes(nbytes=1 << 15, tensors=10, rounds=2, latency_rounds=2, training_rounds=2, steps=2, scale=SCALE)


class Counter:
    """In place of a clock: the n-th time that is taken is n seconds, and half of it the host's."""

    def __init__(self) -> None:
        self.taken = 0
        self.busy: list[bool] = []

    def time(self, call: Callable[[], object], busy: bool) -> Time:
        call()
        self.taken += 1
        self.busy.append(busy)
        return Time(float(self.taken), self.taken / 2)


@pytest.fixture(scope="module")
def results() -> bench.Results:
    return bench.run(CPU, 1, SMALL, Counter())


def test_every_table_has_its_rows(results: bench.Results) -> None:
    told = bench.markdown(results)
    first = told.splitlines()[0]
    assert first.startswith(f"Measured on cpu in place of a device, torch {torch.__version__}, tensometer ")
    tables = [part.splitlines() for part in told.split("\n\n") if part.startswith("|")]
    assert [len(table) - 2 for table in tables] == [15, 2 * 5, 2 * 2, 2 * 4]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
        assert set(table[1]) == set("| -")
    for what in ("moments: float8_e4m3fn", "histogram, k = 3: bfloat16", "sampled histogram", "k = 6", "fingerprint"):
        assert what in told
    for side in ("torch._foreach_norm", "torch.histc", "norm, aminmax, isnan().sum()", "Monitor, every step", "NumPy"):
        assert side in told


def test_json_has_every_time(results: bench.Results) -> None:
    read = json.loads(bench.as_json(results))
    assert read["tensometer"] == tensometer.__version__
    assert read["seed"] == 1
    assert read["device"] == results.device
    assert [len(read[table]) for table in ("large", "many", "latency", "training")] == [15, 2, 2, 2]
    for table in ("large", "many", "latency", "training"):
        for case, measured in zip(read[table], getattr(results, table), strict=True):
            assert case == dataclasses.asdict(measured)
            assert all(len(times) == 2 for times in case["times"].values())


def test_numbers_of_the_tables() -> None:
    """A copy of 3 GB in 2 s, a submit in 1 s; the host's share is 1 ms."""
    times = {bench.SUBMIT: [Time(1.0, 1e-3)] * 3, bench.COPY: [Time(2.0, 1e-3)] * 3}
    large = bench_timing.Measured("moments", 3 * 10**9, times)
    other = dataclasses.replace(large, times={bench.SUBMIT: times[bench.SUBMIT], "torch": [Time(4.0, 0.5)] * 3})
    times = {"nothing": [Time(0.002, 0.1)], "Monitor": [Time(0.003, 0.1)]}
    trained = bench_timing.Measured("MLP", 0, times, {"nothing": 0, "Monitor": 12})
    told = bench.markdown(bench.Results("a device", 0, [large], [other], [other], [trained]))
    assert "| moments | 1000 (1000 to 1000) | 3 | 3 | 100 (100 to 100) |" in told
    assert "| moments | torch | 4000 (4000 to 4000) | 500 (500 to 500) | 4 (4 to 4) |" in told
    assert "| moments | one submit | 1000 (1000 to 1000) |" in told
    assert "| MLP | Monitor | 3 (3 to 3) | 1.5 (1.5 to 1.5) | 12 |" in told


def test_the_sides_take_turns() -> None:
    order: list[str] = []
    sides = {name: lambda name=name: order.append(name) for name in "abc"}
    counter = Counter()
    measured = bench_timing.measure(Case("case", 1, sides, lambda: order.append("check"), busy=False), counter, 3)
    assert "".join(order) == "check" + "abc" + "abc" + "cba" + "abc"
    assert [time.device for time in measured.times["a"]] == [4, 9, 10]
    assert measured.device("a") == Spread(9, 6.5, 9.5)
    assert measured.ratio("b", "a").median == 11 / 10
    assert counter.busy == [False] * 12


def _wrong(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, result: Callable[..., Any]) -> None:
    inner = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given, **options: result(inner(*given, **options)))


def _first_larger(values: Any) -> Any:
    return [values[0] * 1.5, *values[1:]]


@pytest.mark.parametrize(
    ("name", "result", "words"),
    [
        ("_foreach_norm", _first_larger, "norms of tensor 0: torch"),
        ("aminmax", lambda pair: (pair[0], pair[1] * 2), "extremes and NaN of tensor 0"),
        ("histc", lambda counts: counts.roll(1), "histogram of tensor 0: "),
    ],
)
def test_wrong_answers_of_torch_are_told(
    monkeypatch: pytest.MonkeyPatch, name: str, result: Callable[..., Any], words: str
) -> None:
    tensors = bench_cases.model_tensors(bench_cases.Data(CPU, 0), 3, "float32")
    _wrong(monkeypatch, torch, name, result)
    with pytest.raises(WrongAnswerError, match="3 tensors, float32: " + words):
        bench_timing.measure(bench_cases.many_case(tensors), Counter(), 1)


@pytest.fixture
def other_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other summary is that of other numbers, as if the device's were."""
    turns: Iterator[int] = itertools.count()
    for name in ("summarize", "summarize_many"):
        inner = getattr(_core, name)

        def changed(x: Any, inner: Callable[..., Any] = inner, **options: Any) -> Any:
            wrong = next(turns) % 2 == 0
            return inner(([2 * one for one in x] if isinstance(x, list) else 2 * x) if wrong else x, **options)

        monkeypatch.setattr(_core, name, changed)


def test_wrong_answers_of_the_device_are_told(other_results: None) -> None:
    data = bench_cases.Data(CPU, 0)
    timer = Counter()
    for case, words in (
        (bench_cases.large_case("moments", data.normal((500,), "float32"), {}), "moments: not as on the CPU"),
        (bench_cases.many_case(bench_cases.model_tensors(data, 3, "float32")), "3 tensors, float32: not as on the CPU"),
        (next(bench_cases.latency_cases(bench_cases.model_tensors(data, 3, "float32"))), "submit of 1 tensor: not as"),
    ):
        with pytest.raises(WrongAnswerError, match=words):
            bench_timing.measure(case, timer, 1)
    assert timer.taken == 0


def test_a_wrong_copy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    case = bench_cases.large_case("moments", torch.ones(5), {})
    monkeypatch.setattr(torch, "equal", lambda a, b: False)
    with pytest.raises(WrongAnswerError, match="the copy is another tensor"):
        case.check()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "int8", "float64"])
def test_data_is_told_by_its_seed(dtype: str) -> None:
    one, same, other = (bench_cases.Data(CPU, seed).normal((50,), dtype).view(torch.uint8) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", list(bench_training.NETWORKS))
def test_training_is_captured_as_numpy_sees_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = bench_training.NETWORKS[name]
    bench_training.check(name, network, CPU, SCALE)
    inner = bench_training.ByHand.step

    def wrong(self: bench_training.ByHand, loss: Any) -> None:
        inner(self, loss)
        list(self.rows.values())[1]["max"] += 1

    monkeypatch.setattr(bench_training.ByHand, "step", wrong)
    with pytest.raises(WrongAnswerError, match=f"{name}: max of gradients of .* is .*, not "):
        bench_training.check(name, network, CPU, SCALE)


def test_sides_of_a_training_train_alike() -> None:
    weights = []
    with bench_training.sides(bench_training.mlp, CPU, SCALE) as trainings:
        assert next(iter(trainings)) == bench_training.NONE
        for training in trainings.values():
            for _ in range(3):
                training.step()
            weights.append([parameter.detach().numpy().copy() for parameter in training.model.parameters()])
    for other in weights[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(weights[0], other, strict=True))


def test_what_monitors_drop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensometer.Monitor, "dropped", 3)
    measured = bench_training.measure("MLP", CPU, SCALE, rounds=1, steps=1)
    assert list(measured.dropped.values()) == [0, 3, 3, 0]


def test_training_is_timed_over_all_of_its_steps() -> None:
    """The clock stands at 0, 1, 2, ...: a batch ends for the host after 1 s, for the device after 2 s."""
    clock = map(float, itertools.count())
    measured = bench_training.measure("MLP", CPU, SCALE, rounds=2, steps=4, clock=lambda: next(clock))
    assert set(itertools.chain(*measured.times.values())) == {Time(device=2 / 4, host=1 / 4)}
    assert [len(times) for times in measured.times.values()] == [2] * 4


class Event:
    """torch.cuda.Event as far as it is used; the log says in which order."""

    log: list[str]

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.log.append("record")

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def elapsed_time(self, end: "Event") -> float:
        assert end is not self
        return 2.5


def test_the_timer_stands_around_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Event.log = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    copy = torch.Tensor.copy_
    monkeypatch.setattr(torch.Tensor, "copy_", lambda *given: (log.append("busy"), copy(*given)))
    timer = bench_timing.CudaTimer(CPU, scratch=8)
    taken = timer.time(lambda: log.append("call"), busy=True)
    assert log == ["busy", "record", "call", "record", "synchronize"]
    assert taken.device == 2.5e-3
    assert 0 < taken.host < 1
    log.clear()
    timer.time(lambda: log.append("call"), busy=False)
    assert log == ["record", "call", "record", "synchronize"]


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bench_training.measure("MLP", CPU, SCALE, rounds=1, steps=1)
    assert list(tmp_path.iterdir()) == []
