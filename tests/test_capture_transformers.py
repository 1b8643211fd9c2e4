"""The callback for Hugging Face transformers: a run holds what the trainer saw, and training does not feel it."""

from pathlib import Path
from typing import Any

import pytest
import tensometer
import torch
import transformers
from tensometer import Monitor, open_run
from tensometer.capture.transformers import MonitorCallback

# Of other libraries, about themselves.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:.*pin_memory")

LAYER = "bert.encoder.layer.0.output.dense.weight"


def data(count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {"input_ids": torch.randint(20, (6,), generator=generator), "labels": torch.tensor(number % 2)}
        for number in range(count)
    ]


class Keeper(transformers.TrainerCallback):  # type: ignore[misc]
    """Keeps what a run must hold."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []
        self.weights: list[torch.Tensor] = []
        self.logs: list[dict[str, float]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        gradient = more["model"].get_parameter(LAYER).grad
        self.gradients.append(gradient.clone())

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.weights.append(more["model"].get_parameter(LAYER).detach().clone())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        self.logs.append(dict(logs))

    def logged(self, name: str) -> list[float]:
        return [logs[name] for logs in self.logs if name in logs]


def train(folder: Path, callback: Any, resume: str | None = None, **settings: Any) -> tuple[Keeper, Any]:
    """Four batches of four an epoch, on a model too small to learn anything."""
    transformers.set_seed(0)
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
    )
    model = transformers.BertForSequenceClassification(config)
    keeper = Keeper()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        use_cpu=True,
        disable_tqdm=True,
        **{"num_train_epochs": 2, "logging_steps": 1, "eval_strategy": "epoch", "save_strategy": "no"} | settings,
    )
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=data(16),
        eval_dataset=data(4),
        callbacks=[keeper, *([callback] if callback else [])],
    )
    trainer.train(resume_from_checkpoint=resume)
    return keeper, trainer


def assert_rows(series: tensometer.Series, tensors: list[torch.Tensor]) -> None:
    expected = tensometer.summarize_many(tensors)
    assert len(series) == len(tensors)
    for statistic in ("count", "zeros", "min", "max", "mean", "var", "l2"):
        assert series[statistic].tolist() == expected.column(statistic).tolist()


@pytest.mark.parametrize("accumulated", [1, 2])
def test_what_is_captured(tmp_path: Path, accumulated: int) -> None:
    callback = MonitorCallback(tmp_path / "run", every=1, strict=True)
    keeper, _ = train(tmp_path / "out", callback, max_grad_norm=0.01, gradient_accumulation_steps=accumulated)
    run = open_run(tmp_path / "run")
    steps = 8 // accumulated
    assert run.steps().tolist() == list(range(steps))
    # Those that the optimizer used, after clipping.
    assert_rows(run.series(LAYER, collection="gradients"), keeper.gradients)
    assert_rows(run.series(LAYER, collection="weights"), keeper.weights)
    loss, rate = run.series("loss"), run.series("learning_rate")
    assert (loss.key.collection, rate.key.collection) == ("losses", "metrics")
    assert (loss.steps.tolist(), loss["mean"].tolist()) == (list(range(steps)), keeper.logged("loss"))
    assert rate["mean"].tolist() == keeper.logged("learning_rate")
    evaluated = run.series("eval_loss")
    assert set(evaluated.phases) == {"eval"}
    assert evaluated.steps.tolist() == [steps // 2 - 1, steps - 1]
    assert evaluated["mean"].tolist() == keeper.logged("eval_loss")
    assert run.series("train_loss").steps.tolist() == [steps - 1]
    assert run.series(LAYER, collection="weights").key.facts["optimizer"] == 0


def test_logs_between_captured_steps_are_recorded_with_the_next(tmp_path: Path) -> None:
    keeper, _ = train(tmp_path / "out", MonitorCallback(tmp_path / "run", every=3), logging_steps=2)
    loss = open_run(tmp_path / "run").series("loss")
    # Logged after the steps 1, 3, 5 and 7; captured are 0, 3 and 6.
    assert (loss.steps.tolist(), loss["mean"].tolist()) == ([3, 6], keeper.logged("loss")[1:3])


def test_training_is_not_changed(tmp_path: Path) -> None:
    plain, _ = train(tmp_path / "a", None, max_grad_norm=0.1)
    watched, _ = train(tmp_path / "b", MonitorCallback(tmp_path / "run", every=2), max_grad_norm=0.1)
    for name in ("loss", "grad_norm", "eval_loss", "train_loss"):
        assert plain.logged(name) == watched.logged(name)
    assert len(plain.weights) == 8
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, watched.weights, strict=True))


def test_a_resumed_run_goes_on_at_the_global_step(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 6}
    train(tmp_path / "out", MonitorCallback(tmp_path / "run", every=4), max_steps=6, **saving)
    assert open_run(tmp_path / "run").series("loss").steps.tolist() == [0, 4]
    checkpoint = str(tmp_path / "out" / "checkpoint-6")
    callback = MonitorCallback(tmp_path / "run", every=4)
    keeper, _ = train(tmp_path / "out", callback, checkpoint, num_train_epochs=3)
    series = open_run(tmp_path / "run").series(LAYER, collection="weights")
    assert series.steps.tolist() == [0, 4, 8]
    assert series["l2"][-1] == tensometer.summarize(keeper.weights[2]).l2


def test_the_last_step_is_that_of_training_though_the_best_model_is_loaded(tmp_path: Path) -> None:
    saving = {"save_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    # The larger loss counts as better, so that the last model is not the best.
    callback = MonitorCallback(tmp_path / "run", every=1)
    keeper, trainer = train(tmp_path / "out", callback, greater_is_better=True, learning_rate=1e-3, **saving)
    assert not torch.equal(trainer.model.get_parameter(LAYER), keeper.weights[-1])
    assert_rows(open_run(tmp_path / "run").series(LAYER, collection="weights"), keeper.weights)


def test_a_monitor_of_the_caller_stays_open_without_models(tmp_path: Path) -> None:
    with Monitor(tmp_path / "run", every=1, strict=True) as monitor:
        train(tmp_path / "out", MonitorCallback(monitor))
        assert monitor.current_step == 8
        monitor.step(extra=1.0)
    run = open_run(tmp_path / "run")
    assert run.series("extra").steps.tolist() == [8]
    assert run.series(LAYER, collection="weights").steps.tolist() == list(range(8))


def test_errors_are_one_warning_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = train(tmp_path / "a", None)

    def failing(*_: object, **__: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(Monitor, "attach", failing)
    with pytest.warns(RuntimeWarning, match="ZeroDivisionError: on purpose; training goes on") as caught:
        watched, _ = train(tmp_path / "b", MonitorCallback(tmp_path / "run", every=1))
    assert len([one for one in caught if "tensometer" in str(one.message)]) == 1
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, watched.weights, strict=True))
    assert open_run(tmp_path / "run").series("loss")["mean"].tolist() == watched.logged("loss")
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "c", MonitorCallback(tmp_path / "strict", every=1, strict=True))
