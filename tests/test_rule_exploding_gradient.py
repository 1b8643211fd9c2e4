"""ExplodingGradient."""

from pathlib import Path

from rule_networks import layers, sgd, trained
from rule_steps import Bench, normal
from tensometer.rules import Severity
from tensometer.rules.exploding_gradient import ExplodingGradient


def course(rule: ExplodingGradient, scales: list[float], losses: list[float] | None = None) -> list[int]:
    bench, found = Bench(rule), []
    for at, scale in enumerate(scales):
        given = {} if losses is None else {"losses": {"loss": losses[at]}}
        found += bench.step(gradients={"a.weight": normal(8, 8, scale=scale)}, **given)
    return [one.step for one in found]


def test_growth_with_a_worse_loss_is_found_at_its_third_step() -> None:
    assert course(ExplodingGradient(), [1, 1, 20, 400, 2000], [2, 2, 4, 50, 1e3]) == [4]


def test_growth_while_the_loss_falls_is_healthy() -> None:
    assert course(ExplodingGradient(), [1, 3, 10, 20, 30], [2, 2, 1.9, 1.5, 1]) == []


def test_one_wild_batch_is_healthy() -> None:
    assert course(ExplodingGradient(), [1, 1, 50, 1, 40, 1], [2, 2, 100, 2, 90, 2]) == []


def test_without_losses_only_a_hundredfold_growth_counts() -> None:
    assert course(ExplodingGradient(), [1, 1, 20, 20, 20, 20]) == []
    assert course(ExplodingGradient(), [1, 1, 200, 200, 200]) == [4]


def test_a_gradient_beyond_all_weights_is_found_at_once() -> None:
    (finding,) = Bench(ExplodingGradient()).step(gradients={"a.weight": normal(8, 8, scale=1e6)})
    assert (finding.kind, finding.severity) == ("level", Severity.ERROR)


def test_targets_in_thousands_have_gradients_in_thousands() -> None:
    def judged(first_loss: float, kind: str = "MSELoss") -> list[str]:
        rows = {"gradients": {"a.weight": normal(8, 8, scale=1e4)}, "losses": {"loss": first_loss}}
        bench = Bench(ExplodingGradient(), facts={"label": {"module_type": kind}})
        return [one.kind for one in bench.step(**rows, labels={"label": normal(8, 1)})]

    assert judged(1.0) == ["level"]
    assert judged(1e6) == []
    assert judged(1e6, "CrossEntropyLoss") == ["level"]


def test_before_an_update_the_loss_of_the_step_before_counts() -> None:
    bench = Bench(ExplodingGradient(), facts={"label": {"module_type": "MSELoss"}})
    for scale in (1e4, 2e4, 1e4):
        rows = {"gradients": {"a.weight": normal(8, 8, scale=scale)}, "losses": {"loss": 1e6}}
        assert bench.step(**rows, labels={"label": normal(8, 1)}) == []
    alone = bench.made(gradients={"a.weight": normal(8, 8, scale=1e4)})
    assert bench.engine.foresee(alone, "gradients") == []


def test_a_rate_that_diverges(tmp_path: Path) -> None:
    model = layers(16, 32, 10)
    assert trained(tmp_path / "a", ExplodingGradient(), model, sgd(model, 300.0))
    model = layers(16, 32, 10)
    assert trained(tmp_path / "b", ExplodingGradient(), model, sgd(model)) == []
