"""Underfitting."""

import numpy as np
from rule_networks import rate
from rule_steps import Bench, normal
from tensometer.rules.underfitting import Underfitting

FACTS = {"label": {"module_type": "MSELoss"}}


def found(level: float, count: int = 70, samples: int = 64, fall: float = 0.0, rates: float = 0.1) -> list[int]:
    """The steps of findings where the loss is so much of the targets' variance, and falls by so much a step."""
    targets = normal(samples, 1)
    targets = (targets - targets.mean()) / np.float32(targets.std())
    bench, findings = Bench(Underfitting(), facts=FACTS), []
    for step in range(count):
        loss = level - fall * step
        findings += bench.step(losses={"loss": loss}, labels={"label": targets}, loop=rate(rates))
    return [one.step for one in findings]


def test_a_loss_like_that_of_the_mean() -> None:
    assert found(0.97) == [61]
    assert found(0.93) == []
    assert found(1.25) == []  # another loss, with terms of its own


def test_a_table_of_embeddings_takes_many_indices() -> None:
    def judged(rows: int, every: int = 1) -> bool:
        facts = FACTS | {"table.weight": {"module_type": "Embedding"}}
        targets = np.tile(np.array([-1.0, 1.0], np.float32), 32)[:, None]
        tables = {"table.weight": normal(rows, 4)}
        bench, inputs = Bench(Underfitting(), facts=facts), {"x": np.arange(640).reshape(64, 10)}
        rows_of = {"labels": {"label": targets}, "loop": rate(0.1), "inputs": inputs, "losses": {"loss": 1.0}}
        steps = [bench.step(**rows_of, **({"weights": tables} if at % every == 0 else {})) for at in range(90)]
        return any(steps)

    assert judged(400)
    assert not judged(600, every=10)
    assert not judged(600)  # 57,600 indices, of 60,000


def test_a_small_rate_has_not_moved_weights_yet() -> None:
    def judged(part: float, every: int = 1) -> list[int]:
        """The steps of findings where an update changes the weight by such a part of it."""
        targets, weight = np.tile(np.array([-1.0, 1.0], np.float32), 32)[:, None], {"a.weight": normal(8, 8)}
        rows = {"weights": weight, "updates": {"a.weight": np.float32(part) * normal(8, 8)}}
        bench, findings = Bench(Underfitting(), facts=FACTS), []
        for step in range(120):
            seen = rows if step % every == 0 else {}
            findings += bench.step(losses={"loss": 1.0}, labels={"label": targets}, loop=rate(0.1), **seen)
        return [one.step for one in findings]

    assert judged(0.01) == [61]
    assert judged(0.0021) == [97]
    assert judged(0.001) == []
    assert judged(0.0021, every=10) == [102]


def test_what_learns_slowly_or_has_hardly_begun() -> None:
    assert found(1.05, fall=0.001) == []
    assert found(1.0, samples=16) == []
    assert found(1.0, rates=0.0) == []
