"""Rules across ranks: when they are asked, ReplicaDivergence, IdenticalBatches."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rule_steps import Bench, normal
from tensometer import Monitor
from tensometer.replay import Replay, evaluate
from tensometer.rules import Finding, Severity, Step
from tensometer.rules.identical_batches import IdenticalBatches
from tensometer.rules.ranks import Together
from tensometer.rules.replica_divergence import ReplicaDivergence

RULES = [ReplicaDivergence, IdenticalBatches]
REPLICATED = {"w": {"placement": {"kind": "replicate"}}}


class Ranks:
    """Judges steps of several ranks by one rule: each rank has a bench of its own, as it has a process."""

    def __init__(self, rule: Any, count: int = 2, facts: Any = None) -> None:
        self.bench = Bench(rule)
        self.ranks = [Bench(rank=rank, facts=facts) for rank in range(count)]

    def step(self, *collections: Any) -> list[Finding]:
        """Of each rank, what it has captured; None for a rank without the step."""
        made = [bench.made(**one) for bench, one in zip(self.ranks, collections, strict=True) if one is not None]
        return self.bench.engine.judge_ranks([step.numbered_by(self.bench.engine.catalogue) for step in made])


def weights(seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"weights": {"w": normal(4, 8, seed=seed), **more}}


def inputs(seed: int, **more: Any) -> dict[str, Any]:
    return {"inputs": {"input.0": normal(4, 8, seed=seed), **more}}


def step(rank: int, number: int, time: float = 0.0) -> Step:
    bench = Bench(rank=rank)
    made = bench.made(at=number, weights={"w": normal(2)})
    made.time = time
    return made


def ready(found: Any) -> list[tuple[int, list[int]]]:
    return [(steps[0].number, [one.rank for one in steps]) for steps in found]


def test_steps_wait_for_all_ranks() -> None:
    together = Together(3)
    assert ready(together.add(step(0, 0))) == ready(together.add(step(0, 1))) == ready(together.add(step(1, 0))) == []
    assert ready(together.add(step(2, 1))) == [(0, [0, 1])]  # rank 2 came by step 0 without it
    assert ready(together.add(step(1, 2))) == [(1, [0, 2])]
    assert ready(together.add(step(1, 1))) == []  # too late
    assert ready(together.rest()) == []  # a single rank compares with nobody


def test_a_rank_that_stays_away_is_not_waited_for() -> None:
    together = Together(3, seconds=60)
    found = []
    for number in range(5):
        for rank in (0, 1):
            found += ready(together.add(step(rank, number, 30.0 * number)))
    assert found == [(0, [0, 1]), (1, [0, 1])]
    assert ready(together.end(2)) == [(2, [0, 1]), (3, [0, 1]), (4, [0, 1])]
    # One that joins late is waited for from then on.
    assert ready(together.add(step(3, 5, 150.0))) == []
    assert ready(together.add(step(0, 6, 150.0))) == ready(together.add(step(1, 6, 150.0))) == []
    assert ready(together.add(step(3, 6, 150.0))) == [(6, [0, 1, 3])]


def test_replicas_that_part_are_found_at_once() -> None:
    ranks = Ranks(ReplicaDivergence(), 3, REPLICATED)
    assert ranks.step(weights(), weights(), weights()) == []
    (finding,) = ranks.step(weights(1), weights(1), weights(2))
    assert (finding.rule, finding.severity, finding.step, finding.rank) == ("ReplicaDivergence", Severity.ERROR, 1, 0)
    assert finding.sentence == "w is not the same in ranks 0 and 2; so it is in 1 of 2"


def test_one_bit_is_enough_and_nan_equals_itself() -> None:
    one, other = normal(4, 8), normal(4, 8)
    one[0, 0] = other[0, 0] = np.nan
    ranks = Ranks(ReplicaDivergence(), facts=REPLICATED)
    assert ranks.step({"weights": {"w": one}}, {"weights": {"w": other}}) == []
    other[1, 1] = np.nextafter(other[1, 1], np.float32(9))
    assert len(ranks.step({"weights": {"w": one}}, {"weights": {"w": other}})) == 1


def test_without_a_placement_only_what_agreed_before_can_part() -> None:
    ranks = Ranks(ReplicaDivergence())
    constant = np.ones(4, np.float32)
    assert ranks.step(weights(0, norm=constant), weights(1, norm=constant)) == []
    assert ranks.step(weights(0, norm=normal(4)), weights(1, norm=normal(4, seed=1))) == []
    assert ranks.step(weights(2), weights(2)) == []
    assert [one.tensor for one in ranks.step(weights(2), weights(3))] == ["w"]


@pytest.mark.parametrize("kind", ["shard", "partial"])
def test_shards_are_not_compared(kind: str) -> None:
    ranks = Ranks(ReplicaDivergence(), facts={"w": {"placement": {"kind": kind, "index": 0, "of": 2}}})
    assert ranks.step(weights(0), weights(1)) == []


def test_tensors_are_matched_by_name() -> None:
    a, b, c = (normal(3, 3, seed=seed) for seed in (1, 2, 3))
    facts = dict.fromkeys("abc", REPLICATED["w"])
    ranks = Ranks(ReplicaDivergence(), facts=facts)
    assert ranks.step({"weights": {"a": a, "b": b}}, {"weights": {"c": c, "b": b, "a": a}}) == []
    (finding,) = ranks.step({"weights": {"a": a, "b": b}}, {"weights": {"c": c, "b": a, "a": a}})
    assert finding.tensor == "b"


def test_identical_batches_are_found_at_the_third_step() -> None:
    ranks = Ranks(IdenticalBatches(), 3)
    for number in range(2):
        assert ranks.step(inputs(number), inputs(100 + number), inputs(number)) == []
    (finding,) = ranks.step(inputs(2), inputs(102), inputs(2))
    assert finding.sentence == "rank 0 and 1 more (rank 2) are given the same inputs"


def test_inputs_that_never_change_or_are_constant_tell_nothing() -> None:
    ranks = Ranks(IdenticalBatches())
    mask = np.ones((4, 8), np.float32)
    for number in range(10):
        assert ranks.step(inputs(0), inputs(0)) == []
        assert ranks.step({"inputs": {"mask": mask}}, {"inputs": {"mask": mask}}) == []
        assert ranks.step(inputs(number, mask=mask), inputs(number + 50, mask=mask)) == []


def test_now_and_then_the_same_batch_is_none() -> None:
    ranks = Ranks(IdenticalBatches())
    for number in range(20):
        assert ranks.step(inputs(number), inputs(number if number % 3 else 100 + number)) == []


def test_parts_of_one_model_share_their_inputs() -> None:
    ranks = Ranks(IdenticalBatches())
    for number in range(10):
        assert ranks.step(inputs(number) | weights(0), inputs(number) | weights(1)) == []
    shards = Ranks(IdenticalBatches(), facts={"w": {"placement": {"kind": "shard", "index": 0, "of": 2}}})
    for number in range(10):
        assert shards.step(inputs(number) | weights(0), inputs(number) | weights(0)) == []


def record(path: Path, rank: int, steps: range, seed: int = 0, size: int = 2) -> None:
    """A rank of a run: its weights and inputs, the inputs other ones in every rank but where `seed` says so."""
    with Monitor(path, every=1, rank=rank, world_size=size, strict=True) as monitor:
        monitor.resume_at(steps.start)
        for number in steps:
            monitor.record("w", normal(4, 8, seed=number + (seed if number >= 5 else 0)), collection="weights")
            monitor.record("input.0", normal(4, 8, seed=number + 1000 * rank), collection="inputs")
            monitor.step()


def test_a_run_of_two_ranks_one_of_which_joins_late(tmp_path: Path) -> None:
    record(tmp_path, 0, range(10))
    replay = Replay(tmp_path, RULES)
    assert list(replay.follow()) == []  # rank 1 has not begun
    record(tmp_path, 1, range(3, 8), seed=7)
    assert [(one.rule, one.step, one.tensor) for one in replay.follow()] == [("ReplicaDivergence", 5, "w")]
    assert list(replay.finish()) == []
    assert [one.step for one in evaluate(tmp_path, RULES)] == [5]


def test_a_rank_without_a_monitor_is_not_waited_for_in_the_end(tmp_path: Path) -> None:
    for rank in (0, 2):
        record(tmp_path, rank, range(10), seed=rank, size=3)
    replay = Replay(tmp_path, RULES)
    assert list(replay.follow()) == []
    assert [one.step for one in replay.finish()] == [5]


def test_they_are_not_asked_in_a_process_that_trains(tmp_path: Path) -> None:
    found: list[Finding] = []
    with Monitor(tmp_path, every=1, strict=True, rules=RULES, on_finding=found.append) as monitor:
        for _ in range(5):
            monitor.record("w", normal(4, 8), collection="weights")
            monitor.step()
    assert found == []


TRAINING = """
import sys
import tensometer, torch
import torch.distributed as distributed
from torch import nn

distributed.init_process_group("gloo")
rank = distributed.get_rank()
torch.set_num_threads(1)
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
model = nn.parallel.DistributedDataParallel(network)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
fault = sys.argv[2]
generator = torch.Generator().manual_seed(1 if fault == "batches" else 1 + rank)
with tensometer.Monitor(sys.argv[1], every=1, strict=True) as monitor:
    monitor.attach(model, optimizer=optimizer)
    for number in range(8):
        x = torch.randn(8, 6, generator=generator)
        optimizer.zero_grad()
        whose = network if fault == "replicas" and number == 4 else model  # past the wrapper: nothing is averaged
        loss = nn.functional.cross_entropy(whose(x), (x[:, 0] > 0).long())
        loss.backward()
        optimizer.step()
        monitor.step(loss=loss)
distributed.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("none", []), ("replicas", [("ReplicaDivergence", 4)]), ("batches", [("IdenticalBatches", 2)])],
)
def test_two_processes_that_train_together(tmp_path: Path, fault: str, expected: list[tuple[str, int]]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "PYTHONPATH": path}
    command = [sys.executable, "-c", TRAINING, str(tmp_path / "run"), fault]
    ranks = [subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank)}) for rank in range(2)]
    assert [process.wait(120) for process in ranks] == [0, 0]
    found = evaluate(tmp_path / "run", RULES)
    assert list(dict.fromkeys((one.rule, one.step) for one in found)) == expected


def trained(seed: int, *, begun: int = 0) -> dict[str, Any]:
    """Six matrices that began as those of a seed, after an update."""
    return {"weights": {f"{n}": normal(16, 16, seed=10 * begun + n) + normal(scale=0.01, seed=seed) for n in range(6)}}


def test_replicas_that_were_never_averaged_are_found_at_once() -> None:
    findings = Ranks(ReplicaDivergence(), 2).step(trained(100), trained(101))
    assert [finding.rule for finding in findings] == ["ReplicaDivergence"]


def test_parts_that_began_apart_are_none() -> None:
    ranks = Ranks(ReplicaDivergence(), 2)
    for seed in range(40):
        assert ranks.step(trained(seed, begun=1), trained(seed + 1, begun=2)) == []
    for seed in range(200):
        assert Ranks(ReplicaDivergence(), 2).step(trained(1, begun=2 * seed), trained(1, begun=2 * seed + 1)) == []
