"""Faults of learning rates, optimizers and decay."""

import copy
import time
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, PLAIN, Cases, Trial
from benchmarks.detection.loop import Fit, at, backward, train_before
from benchmarks.detection.models import Language, cnn, linears, mlp

CASES = Cases()


@CASES.fault("NonFinite", "UpdatesTooLarge", "ExplodingGradient", "WeightGrowth")
def rate_that_diverges(trial: Trial) -> None:
    """Regression by a rate of 1, which doubles its error at every step."""
    diabetes = data.standardised("diabetes")
    model = mlp(10, trial.width(64), 1)
    optimizer = trial.optimizer(model.parameters(), "sgd", among=PLAIN, lr=2.0 if trial.broken else 0.02)
    Fit(loss=nn.MSELoss())(trial, model, optimizer, diabetes.batches())


@CASES.fault("UpdatesTooLarge", "LossNotDecreasing")
def rate_that_oscillates(trial: Trial) -> None:
    """Adam by a rate of 1: every step replaces the weights."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    optimizer = trial.optimizer(model.parameters(), among=ADAPTIVE, lr=1.0 if trial.broken else 3e-3)
    Fit()(trial, model, optimizer, digits.batches())


@CASES.fault("UpdatesTooLarge", "LossNotDecreasing", "CollapsedOutput")
def transformer_by_a_rate_of_a_tenth(trial: Trial) -> None:
    """A transformer does not stand the rate that suits plain gradient descent."""
    model = Language(trial.width(32))
    optimizer = trial.optimizer(model.parameters(), "adamw", among=("adam", "adamw"), lr=0.1 if trial.broken else 3e-3)
    Fit(flatten=True)(trial, model, optimizer, data.text())


@CASES.fault("UpdatesTooSmall", "Unchanged", "LossNotDecreasing")
def rate_too_small(trial: Trial) -> None:
    """A rate of 1e-8."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    rate = 1e-7 if trial.broken else 1.0
    Fit()(trial, model, trial.optimizer(model.parameters(), "sgd", rate=rate), digits.batches())


@CASES.fault("Unchanged", "UpdatesTooSmall", "LossNotDecreasing")
def rate_of_zero(trial: Trial) -> None:
    """A schedule divides whole numbers: its factor is 0 until the end."""
    digits = data.digits(images=True)
    model = cnn(trial.width(8))
    schedule = (lambda step: step // 1000) if trial.broken else (lambda step: 1.0)
    Fit(schedule=schedule)(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("UpdatesTooSmall", "Unchanged", "LossNotDecreasing")
def epsilon_too_large(trial: Trial) -> None:
    """Adam whose epsilon is far above its gradients."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    optimizer = trial.optimizer(model.parameters(), among=("adam", "adamw"), eps=1e4 if trial.broken else 1e-8)
    Fit()(trial, model, optimizer, digits.batches())


@CASES.fault("UpdatesTooSmall", "LossNotDecreasing", "VanishingGradient")
def clipped_to_nothing(trial: Trial) -> None:
    """Gradients are clipped to a norm of 1e-6."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    fit = Fit(clip=1e-6 if trial.broken else 1.0)
    fit(trial, model, trial.optimizer(model.parameters(), "sgd", among=PLAIN), digits.batches())


@CASES.fault("WeightCollapse")
def decay_far_too_strong(trial: Trial) -> None:
    """Decay takes a tenth of every weight at every step."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=10.0 if trial.broken else 0.01)
    Fit()(trial, model, optimizer, digits.batches())


@CASES.fault("WeightGrowth", "NonFinite", "ExplodingGradient")
def decay_of_the_wrong_sign(trial: Trial) -> None:
    """Decay written by hand, that adds five hundredths to every weight at every step."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    factor = 1.05 if trial.broken else 0.9999

    def decay(_: int) -> None:
        with torch.no_grad():
            for layer in linears(model):
                layer.weight.mul_(factor)

    fit = Fit(steps=100, after_update=decay)
    fit(trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), digits.batches())


@CASES.fault("LossNotDecreasing", "ExplodingGradient", "UpdatesTooLarge", "WeightGrowth")
def ascent(trial: Trial) -> None:
    """The sign of the loss is wrong: the optimizer climbs."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    optimizer = trial.optimizer(model.parameters(), "sgd", among=("sgd", "adam", "adamw"), maximize=trial.broken)
    Fit()(trial, model, optimizer, digits.batches())


@CASES.fault("UpdatesRoundedAway")
def bfloat16_without_masters(trial: Trial) -> None:
    """Fine-tuning of weights in bfloat16: updates of a thousandth of them are rounded away."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    train_before(model, digits.batches(), 40)
    dtype = torch.bfloat16 if trial.broken else torch.float32
    optimizer = trial.optimizer(model.to(dtype).parameters(), "adam", among=("adam", "adamw"), lr=2e-5)
    Fit(steps=80)(trial, model, optimizer, data.batches(digits.x.to(dtype), digits.y))


@CASES.fault("ParameterNotOptimized", "Unchanged")
def optimizer_of_a_copy(trial: Trial) -> None:
    """The optimizer has the parameters of a copy that was made to be safe."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    optimized = copy.deepcopy(model) if trial.broken else model
    Fit()(trial, model, trial.optimizer(optimized.parameters()), digits.batches())


@CASES.fault("UpdatesTooLarge", "LossSpike", "GradientSpike", "BadStep", onset=40)
def rate_spike(trial: Trial) -> None:
    """A schedule that begins anew gives one step a rate two hundred times too large."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    optimizer = trial.optimizer(model.parameters(), "adam", among=("sgd", "adam", "adamw"))
    spike = 200.0 if trial.broken else 1.0
    fit = Fit(steps=70, schedule=lambda step: spike if step == 40 else 1.0)
    fit(trial, model, optimizer, digits.batches())


@CASES.fault("Unchanged", "UpdatesTooSmall")
def one_group_by_a_rate_of_zero(trial: Trial) -> None:
    """Two groups of parameters; the rate of the lower one was never filled in."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    first, *rest = linears(model)
    groups: list[dict[str, Any]] = [
        {"params": [parameter for layer in rest for parameter in layer.parameters()]},
        {"params": [*first.parameters()], **({"lr": 0.0} if trial.broken else {})},
    ]
    Fit()(trial, model, trial.optimizer(groups), digits.batches())


@CASES.fault("UpdatesTooLarge", "ExplodingGradient", "NonFinite", "DyingReLU")
def loss_summed_not_averaged(trial: Trial) -> None:
    """The sum over a batch instead of its mean, by the same rate."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    loss = nn.CrossEntropyLoss(reduction="sum" if trial.broken else "mean")
    optimizer = trial.optimizer(model.parameters(), "sgd", among=PLAIN, rate=2.0)
    Fit(loss=loss)(trial, model, optimizer, digits.batches(64))


@CASES.fault("ParameterNotOptimized", "Unchanged", "UpdatesTooSmall", "LossNotDecreasing")
def nothing_is_stepped(trial: Trial) -> None:
    """optimizer.step() is missing."""
    digits = data.digits()
    model, loss_module = mlp(64, trial.width(64), 10), nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters())
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for _ in range(60):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_module(model(x), y)
            backward(loss)
            if not trial.broken:
                optimizer.step()
            monitor.step(loss=loss)


@CASES.fault("ParameterNotOptimized", "Unchanged", "LossNotDecreasing")
def nothing_goes_back(trial: Trial) -> None:
    """loss.backward() is missing: the optimizer steps without gradients."""
    digits = data.digits()
    model, loss_module = mlp(64, trial.width(64), 10), nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters())
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for _ in range(60):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_module(model(x), y)
            if not trial.broken:
                backward(loss)
            optimizer.step()
            monitor.step(loss=loss)


@CASES.fault("StalledTraining", onset=20)
def loader_that_hangs(trial: Trial) -> None:
    """For an hour no batch comes: the clock that the monitor reads goes on by so much."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    now, late = time.time, 0.0

    def hang() -> None:
        nonlocal late
        late = 3600.0 if trial.broken else 0.0

    def clock() -> float:
        return now() + late

    with mock.patch("time.time", clock):
        Fit(steps=40, before=at(20, hang))(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("DifferentAcrossRuns", onset=10)
def not_what_it_was(trial: Trial) -> None:
    """A run is repeated, and from step 10 on its rate is another."""
    wide = trial.width(64)
    for one in (trial.first(), trial):
        torch.manual_seed(trial.seed)
        digits, model = data.digits(), mlp(64, wide, 10)
        later = 0.7 if trial.broken and one is trial else 1.0
        fit = Fit(steps=40, schedule=lambda step, later=later: later if step >= 10 else 1.0)  # type: ignore[misc]
        fit(one, model, trial.optimizer(model.parameters()), digits.batches())
