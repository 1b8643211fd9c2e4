"""The callback for Lightning: a run holds what the trainer saw, and training does not feel it."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import tensometer
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from tensometer import Monitor, open_run
from tensometer.capture.lightning import MonitorCallback
from torch import nn

# Of Lightning itself: how it would load data faster, and what of PyTorch it still calls.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


def loader(count: int) -> "torch.utils.data.DataLoader[torch.Tensor]":
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(8, 4, generator=generator) for _ in range(count)]
    return torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


class Module(lightning.LightningModule):
    """A regression that keeps what a run must hold."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.weights: list[torch.Tensor] = []
        self.gradients: list[torch.Tensor] = []
        self.losses: list[float] = []
        self.validated: list[float] = []

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.net(batch) - batch[:, :1]).square().mean()

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train/seen", float(index))
        if index == 1:
            self.log("train/once", 7.0)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.log("val_loss", self.loss(batch))

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.validated.append(self.trainer.callback_metrics["val_loss"].item())

    def optimizer_step(self, *args: Any, **settings: Any) -> None:
        super().optimizer_step(*args, **settings)
        assert self.net[0].weight.grad is not None
        self.gradients.append(self.net[0].weight.grad.clone())
        self.weights.append(self.net[0].weight.detach().clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(module: lightning.LightningModule, callback: Any, path: str | None = None, **settings: Any) -> Any:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=settings.pop("max_epochs", 1),
        callbacks=[callback] if callback else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    validating = loader(2) if hasattr(module, "validated") else None
    trainer.fit(module, loader(6), validating, ckpt_path=path)
    return trainer


def assert_rows(series: tensometer.Series, tensors: list[torch.Tensor]) -> None:
    expected = tensometer.summarize_many(tensors)
    assert len(series) == len(tensors)
    for statistic in ("count", "zeros", "min", "max", "mean", "var", "l2"):
        assert series[statistic].tolist() == expected.column(statistic).tolist()


@pytest.mark.parametrize("clip", [None, 0.01])
def test_what_is_captured(tmp_path: Path, clip: float | None) -> None:
    module = Module()
    fit(module, MonitorCallback(tmp_path, every=1, strict=True), gradient_clip_val=clip, max_epochs=2)
    run = open_run(tmp_path)
    assert run.steps().tolist() == list(range(12))
    assert_rows(run.series("net.0.weight", collection="weights"), module.weights)
    # Those that the optimizer used: of the same step, after clipping.
    assert_rows(run.series("net.0.weight", collection="gradients"), module.gradients)
    assert run.series("loss")["mean"].tolist() == module.losses
    seen = run.series("train/seen")
    assert (seen.key.collection, seen["mean"].tolist()) == ("metrics", [0, 1, 2, 3, 4, 5] * 2)
    # An old value is not recorded again.
    assert run.series("train/once").steps.tolist() == [1, 7]
    validated = run.series("val_loss", phase="eval")
    assert (validated.key.collection, validated.steps.tolist()) == ("losses", [5, 11])
    assert validated["mean"].tolist() == module.validated
    assert set(run.series("val_loss").phases) == {"eval"}
    assert run.series("learning_rate/0")["mean"].tolist() == [0.01] * 12


def test_gradients_are_those_of_a_captured_step(tmp_path: Path) -> None:
    module = Module()
    fit(module, MonitorCallback(tmp_path, every=4))
    run = open_run(tmp_path)
    assert run.steps().tolist() == [0, 4]
    assert_rows(run.series("net.0.weight", collection="gradients"), [module.gradients[0], module.gradients[4]])
    # Nothing was captured at step 5, after which there was a validation.
    assert "val_loss" not in [key.name for key in run.tensors()]


def test_validation_between_captured_steps_is_recorded_with_the_next(tmp_path: Path) -> None:
    module = Module()
    fit(module, MonitorCallback(tmp_path, every=7), max_epochs=2)
    series = open_run(tmp_path).series("val_loss")
    assert (series.steps.tolist(), series["mean"].tolist()) == ([7], module.validated[:1])


def test_accumulated_gradients_are_one_step(tmp_path: Path) -> None:
    module = Module()
    fit(module, MonitorCallback(tmp_path, every=1, strict=True), accumulate_grad_batches=3)
    run = open_run(tmp_path)
    assert run.steps().tolist() == [0, 1]
    assert_rows(run.series("net.0.weight", collection="weights"), module.weights)
    assert_rows(run.series("net.0.weight", collection="gradients"), module.gradients)
    # Lightning tells a third of each, in float32.
    assert run.series("loss")["mean"].tolist() == pytest.approx([module.losses[2], module.losses[5]], rel=1e-6)


class Adversaries(lightning.LightningModule):
    """Two networks with an optimizer each, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.one, self.two = nn.Linear(4, 1), nn.Linear(4, 1)
        self.seen: list[list[torch.Tensor]] = []

    def training_step(self, batch: torch.Tensor, index: int) -> dict[str, Any]:
        losses = []
        for network, optimizer in zip((self.one, self.two), self.optimizers(), strict=True):
            loss = network(batch).square().mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        self.seen.append([network.weight.grad.clone() for network in (self.one, self.two)])
        return {"loss": losses[0] + losses[1]}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(network.parameters(), 0.1) for network in (self.one, self.two)]


def test_several_optimizers(tmp_path: Path) -> None:
    plain, module = Adversaries(), Adversaries()
    fit(plain, None)
    fit(module, MonitorCallback(tmp_path, every=1, strict=True))
    run = open_run(tmp_path)
    assert run.steps().tolist() == list(range(6))
    for number, name in enumerate(("one.weight", "two.weight")):
        assert_rows(run.series(name, collection="gradients"), [seen[number] for seen in module.seen])
        assert run.series(name, collection="weights").key.facts["optimizer"] == number
    assert len(run.series("loss")) == 6
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), module.parameters(), strict=True))


def test_mixed_precision(tmp_path: Path) -> None:
    plain, module = Module(), Module()

    def precision() -> MixedPrecision:
        return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))

    fit(plain, None, plugins=precision())
    fit(module, MonitorCallback(tmp_path, every=1, strict=True), plugins=precision())
    run = open_run(tmp_path)
    assert_rows(run.series("net.0.weight", collection="gradients"), module.gradients)
    assert run.series("amp_scale")["mean"].tolist() == [1024.0] * 6
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, module.weights, strict=True))


class Quasi(Module):
    """An optimizer that calls its closure several times in a step."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=4)


@pytest.mark.parametrize("kind", [Module, Quasi])
def test_training_is_not_changed(tmp_path: Path, kind: type[Module]) -> None:
    plain, module = kind(), kind()
    fit(plain, None, gradient_clip_val=None if kind is Quasi else 0.1)
    fit(module, MonitorCallback(tmp_path, every=2), gradient_clip_val=None if kind is Quasi else 0.1)
    assert plain.losses == module.losses
    assert plain.validated == module.validated
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, module.weights, strict=True))
    assert open_run(tmp_path).series("optimizer_steps")["mean"].tolist() == [1.0] * 3


def test_a_resumed_run_goes_on_at_the_global_step(tmp_path: Path) -> None:
    with Monitor(tmp_path / "run", every=4) as monitor:
        trainer = fit(Module(), MonitorCallback(monitor))
    trainer.save_checkpoint(tmp_path / "checkpoint")
    assert open_run(tmp_path / "run").series("loss").steps.tolist() == [0, 4]
    module = Module()
    fit(module, MonitorCallback(tmp_path / "run", every=4), str(tmp_path / "checkpoint"), max_epochs=2)
    series = open_run(tmp_path / "run").series("loss")
    assert series.steps.tolist() == [0, 4, 8]
    assert series["mean"][-1] == module.losses[2]


class Broken(Module):
    """Fails in its third step."""

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        if index == 2:
            raise ArithmeticError("on purpose")
        return super().training_step(batch, index)


def test_an_exception_finishes_the_run(tmp_path: Path) -> None:
    module = Broken()
    with pytest.raises(ArithmeticError, match="on purpose"):
        fit(module, MonitorCallback(tmp_path, every=1))
    run = open_run(tmp_path)
    assert run.series("loss")["mean"].tolist() == module.losses
    assert not module.net[0]._forward_hooks


def test_an_exception_empties_the_flight_recorder(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError, match="on purpose"):
        fit(Broken(), MonitorCallback(tmp_path, every=100, recorder=5))
    run = open_run(tmp_path)
    assert run.series("loss").steps.tolist() == [0, 1]
    for kind in ("recorder", "interrupted"):
        assert run.events(kind)[0].data["reason"] == "ArithmeticError: on purpose"


def test_a_monitor_of_the_caller_stays_open_without_models(tmp_path: Path) -> None:
    module = Module()
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        fit(module, MonitorCallback(monitor))
        assert monitor.current_step == 6
        monitor.step(extra=1.0)
    run = open_run(tmp_path)
    assert run.series("extra").steps.tolist() == [6]
    assert run.series("net.0.weight", collection="weights").steps.tolist() == list(range(6))


def test_ranks_are_those_of_the_trainer(tmp_path: Path) -> None:
    second_of_two = lightning.strategies.SingleDeviceStrategy(torch.device("cpu"))
    second_of_two.global_rank, second_of_two.world_size = 1, 2
    fit(Module(), MonitorCallback(tmp_path, every=1), strategy=second_of_two)
    run = open_run(tmp_path)
    assert (run.ranks, run.about["world_size"]) == ([1], 2)


def test_errors_are_one_warning_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, module = Module(), Module()
    fit(plain, None)

    def failing(*_: object, **__: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(Monitor, "attach", failing)
    with pytest.warns(RuntimeWarning, match="ZeroDivisionError: on purpose; training goes on") as caught:
        fit(module, MonitorCallback(tmp_path, every=1))
    assert len([one for one in caught if "tensometer" in str(one.message)]) == 1
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, module.weights, strict=True))
    assert open_run(tmp_path).series("loss")["mean"].tolist() == module.losses
    with pytest.raises(ZeroDivisionError):
        fit(Module(), MonitorCallback(tmp_path, every=1, strict=True))


def test_nothing_is_stored_before_training(tmp_path: Path) -> None:
    MonitorCallback(tmp_path / "run", every=1)
    assert not (tmp_path / "run").exists()
