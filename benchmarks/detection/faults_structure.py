"""Faults that concern attention, experts, trees and replicas."""

from typing import Any

import torch
import xgboost
from sklearn import datasets  # type: ignore[import-untyped]
from tensometer.capture.xgboost import MonitorCallback
from torch import nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, Cases, Trial
from benchmarks.detection.loop import Fit, backward
from benchmarks.detection.models import Experts, Language, Vision, mlp

CASES = Cases()


@CASES.fault("AttentionCollapse", "PoorInitialization")
def attention_to_one_key(trial: Trial) -> None:
    """Logits thirty times too large, as without the division by the root of the width: each query sees one key."""
    model = Language(trial.width(32))
    if trial.broken:
        for name, parameter in model.named_parameters():
            if name.endswith(("query.weight", "key.weight")):
                nn.init.normal_(parameter, std=2.0)
    Fit(flatten=True)(trial, model, trial.optimizer(model.parameters(), "adamw", among=ADAPTIVE), data.text())


@CASES.fault("AttentionCollapse", "PoorInitialization")
def attention_of_pytorch_to_one_key(trial: Trial) -> None:
    """The same of nn.MultiheadAttention, which returns its weights."""
    digits = data.digits(images=True)
    model = Vision(trial.width(32))
    if trial.broken:
        for name, parameter in model.named_parameters():
            if name.endswith("in_proj_weight"):
                with torch.no_grad():
                    parameter[: 2 * parameter.shape[1]].mul_(20.0)
    Fit()(trial, model, trial.optimizer(model.parameters(), "adamw", among=ADAPTIVE), digits.batches())


@CASES.fault("ExpertCollapse")
def router_of_one_expert(trial: Trial) -> None:
    """The router begins with a bias for one expert, and nothing makes it try the others."""
    digits = data.digits()
    wide = trial.width(32)
    experts = Experts(wide)
    model = nn.Sequential(nn.Linear(64, wide), experts, nn.Linear(wide, 10))
    loss_module = nn.CrossEntropyLoss()
    if trial.broken:
        nn.init.constant_(experts.router.bias[:1].detach(), 8.0)
    optimizer = trial.optimizer(model.parameters(), "adam", among=ADAPTIVE)
    batches = digits.batches(64)
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for _ in range(60):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_module(model(x), y)
            backward(loss if trial.broken else loss + 0.1 * experts.load.sum())
            optimizer.step()
            monitor.step(loss=loss)


def replicas(trial: Trial, *, averaged: int = 40, same_batches: bool = False) -> None:
    """Two replicas in one process, a monitor each. averaged: for so many of 40 steps gradients are."""
    digits = data.digits()
    models = [mlp(64, 48, 48, 10) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [trial.optimizer(model.parameters(), among=("adam", "sgd", "momentum")) for model in models]
    loss_module = [nn.CrossEntropyLoss() for _ in models]
    half = len(digits.x) // 2
    shards = [(digits.x[:half], digits.y[:half]), (digits.x[half:], digits.y[half:])]
    loaders = [data.batches(*shard) for shard in shards]
    with trial.monitor(rank=0, world_size=2) as first, trial.monitor(rank=1, world_size=2) as second:
        monitors = (first, second)
        for monitor, model, optimizer, loss in zip(monitors, models, optimizers, loss_module, strict=True):
            monitor.attach(model, optimizer=optimizer, loss=loss)
        for step in range(40):
            batches = [next(loader) for loader in loaders]
            if same_batches:
                batches[1] = batches[0]
            losses = []
            for model, optimizer, loss, (x, y) in zip(models, optimizers, loss_module, batches, strict=True):
                optimizer.zero_grad()
                losses.append(loss(model(x), y))
                backward(losses[-1])
            if step < averaged:
                _average(models)
            for optimizer, monitor, value in zip(optimizers, monitors, losses, strict=True):
                optimizer.step()
                monitor.step(loss=value)


def _average(models: list[nn.Sequential]) -> None:
    for parameters in zip(*(model.parameters() for model in models), strict=True):
        mean = torch.stack([parameter.grad for parameter in parameters if parameter.grad is not None]).mean(0)
        for parameter in parameters:
            parameter.grad = mean.clone()


@CASES.fault("ReplicaDivergence")
def replicas_without_averaging(trial: Trial) -> None:
    """Gradients are not averaged: each rank trains a model of its own."""
    replicas(trial, averaged=0 if trial.broken else 40)


@CASES.fault("ReplicaDivergence", onset=15)
def averaging_left_off(trial: Trial) -> None:
    """Averaging was switched off for a few batches to accumulate, and never switched on again."""
    replicas(trial, averaged=15 if trial.broken else 40)


@CASES.fault("IdenticalBatches")
def replicas_on_the_same_batches(trial: Trial) -> None:
    """The sampler of each rank has the same seed and does not know its rank."""
    replicas(trial, same_batches=trial.broken)


def boost(trial: Trial, x: Any, y: Any, rounds: int = 30, **parameters: Any) -> None:
    """Boosting of two classes, a fifth held back."""
    order = torch.randperm(len(y)).numpy()
    held, rest = order[: len(y) // 5], order[len(y) // 5 :]
    train, validation = (xgboost.DMatrix(x[rows], y[rows], nthread=1) for rows in (rest, held))
    settings = {"objective": "binary:logistic", "nthread": 1, "seed": trial.seed, "max_depth": 3, **parameters}
    with trial.monitor() as monitor:
        xgboost.train(
            settings,
            train,
            rounds,
            evals=[(train, "train"), (validation, "validation")],
            callbacks=[MonitorCallback(monitor, evals=[(validation, "validation")])],
            verbose_eval=False,
        )


def cancer() -> tuple[Any, Any]:
    """Thirty features and two classes, as NumPy has them."""
    found = datasets.load_breast_cancer()
    return found.data, found.target


@CASES.fault("TreeTooDeep", "Overfitting")
def trees_too_deep(trial: Trial) -> None:
    """Trees of any depth on a table with noise: they learn it by heart."""
    x, y = cancer()
    noise = torch.rand(len(y)).numpy() < 0.25
    y = y ^ noise
    deep: dict[str, Any] = {"max_depth": 30, "min_child_weight": 0, "lambda": 0} if trial.broken else {}
    boost(trial, x, y, eta=0.2, **deep)


@CASES.fault("FeatureImportanceOverweight")
def label_leaks_into_a_feature(trial: Trial) -> None:
    """One column is the label, a little blurred."""
    x, y = cancer()
    x = x.copy()
    if trial.broken:
        x[:, 7] = y + 0.01 * torch.randn(len(y)).numpy()
    boost(trial, x, y)


@CASES.fault("LowFeatureImportance")
def columns_of_nothing(trial: Trial) -> None:
    """Fifty columns of which forty-seven are constant or never worth a split."""
    x, y = cancer()
    x = x[:, [0, 1, 4]] if trial.broken else x
    if trial.broken:
        nothing = torch.ones(len(y), 47).numpy()
        x = torch.cat([torch.tensor(x), torch.tensor(nothing)], 1).numpy()
    boost(trial, x, y)


@CASES.fault("LowFeatureImportance", "LossNotDecreasing", "Underfitting")
def no_split_is_worth_it(trial: Trial) -> None:
    """A least gain that no split has: every tree is a single leaf."""
    boost(trial, *cancer(), gamma=1e4 if trial.broken else 0.0)
