"""Faults of what is connected with what: gradients, optimizers, modes, ties (Stack Overflow, TrainCheck)."""

import torch
from torch import nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, PLAIN, Cases, Trial, parameters_of
from benchmarks.detection.loop import Fit, at, backward
from benchmarks.detection.models import Language, cnn, linears, mlp

CASES = Cases()


@CASES.fault("GradientsNotCleared")
def gradients_never_cleared(trial: Trial) -> None:
    """zero_grad() is missing."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    loss_module = nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters(), "sgd", among=("sgd", "adam", "momentum"))
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for _ in range(60):
            x, y = next(batches)
            if not trial.broken:
                optimizer.zero_grad()
            loss = loss_module(model(x), y)
            backward(loss)
            optimizer.step()
            monitor.step(loss=loss)


@CASES.fault("GradientsNotCleared")
def one_group_never_cleared(trial: Trial) -> None:
    """Of two optimizers one is cleared: the lower half of the network gathers its gradients."""
    digits = data.digits()
    wide = trial.width(64)
    lower, upper = mlp(64, wide, wide), mlp(wide, 32, 10)
    model, loss_module = nn.Sequential(lower, nn.ReLU(), upper), nn.CrossEntropyLoss()
    optimizers = [trial.optimizer(part.parameters(), "adam", among=("adam", "adamw")) for part in (lower, upper)]
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizers, loss=loss_module)
        for _ in range(60):
            x, y = next(batches)
            for optimizer in optimizers[1:] if trial.broken else optimizers:
                optimizer.zero_grad()
            loss = loss_module(model(x), y)
            backward(loss)
            for optimizer in optimizers:
                optimizer.step()
            monitor.step(loss=loss)


@CASES.fault("ParameterNotOptimized")
def head_not_in_the_optimizer(trial: Trial) -> None:
    """The optimizer was given the body alone, though the head gets gradients."""
    digits = data.digits(images=True)
    model = cnn(trial.width(8))
    trained = [*model.children()][:-1] if trial.broken else [model]
    Fit()(trial, model, trial.optimizer(parameters_of(*trained)), digits.batches())


@CASES.fault("ParameterNotOptimized")
def head_replaced_afterwards(trial: Trial) -> None:
    """The optimizer was built, then the head was replaced by one of another size."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 20)
    optimizer = trial.optimizer(model.parameters())
    model[-1] = nn.Linear(model[-1].in_features, 10)  # type: ignore[arg-type]
    if not trial.broken:
        optimizer = trial.optimizer(model.parameters())
    Fit()(trial, model, optimizer, digits.batches())


class Detached(nn.Module):
    """A body and a head. cut: the head does not tell the body what it needs."""

    def __init__(self, width: int, *, cut: bool) -> None:
        super().__init__()
        self.body, self.head, self.cut = mlp(64, width, width), mlp(width, 32, 10), cut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x)
        result: torch.Tensor = self.head(features.detach() if self.cut else features)
        return result


@CASES.fault("ParameterNotOptimized")
def body_detached(trial: Trial) -> None:
    """A detach() between body and head: the body is trainable and never gets a gradient."""
    digits = data.digits()
    model = Detached(trial.width(48), cut=trial.broken)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("ParameterNotOptimized", onset=10)
def frozen_weight_changes(trial: Trial) -> None:
    """A layer is frozen, and a hand-written decay changes it nevertheless."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(32), 10)
    first = linears(model)[0].requires_grad_(False)

    def decay(step: int) -> None:
        if trial.broken and step >= 10:
            with torch.no_grad():
                first.weight.mul_(0.999)

    rest = [parameter for parameter in model.parameters() if parameter.requires_grad]
    Fit(after_update=decay)(trial, model, trial.optimizer(rest), digits.batches())


@CASES.fault("ParameterNotOptimized", onset=15)
def tied_weights_come_apart(trial: Trial) -> None:
    """A head that is tied to the embedding is put in anew, as loading or moving a model may do."""
    model = Language(trial.width(32), 1, tied=True)

    def untie() -> None:
        if trial.broken:
            model.head.weight = nn.Parameter(model.head.weight.detach().clone())

    optimizer = trial.optimizer(model.parameters(), "adamw", among=ADAPTIVE)
    Fit(before=at(15, untie), flatten=True, steps=40)(trial, model, optimizer, data.text())


@CASES.fault("EvalModeInTraining", "NormalizationFrozen", onset=11)
def never_back_to_training_mode(trial: Trial) -> None:
    """After the first validation the model stays in evaluation mode."""
    digits = data.digits(images=True)
    model = cnn(trial.width(8))
    model.insert(8, nn.Dropout(0.3))
    loss_module = nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters())
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for step in range(60):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_module(model(x), y)
            backward(loss)
            optimizer.step()
            scalars = {}
            if step % 10 == 9:
                model.eval()
                with torch.no_grad():
                    scalars["val_loss"] = loss_module(model(digits.held_x), digits.held_y)
                if not trial.broken:
                    model.train()
            monitor.step(loss=loss, **scalars)
            if step == 9:
                trial.onset = 10


@CASES.fault("EvalModeInTraining", "NormalizationFrozen")
def training_in_evaluation_mode(trial: Trial) -> None:
    """model.eval() was called before training."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10, normalise=True, dropout=0.2)
    model.train(not trial.broken)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("NormalizationFrozen")
def statistics_do_not_move(trial: Trial) -> None:
    """Batch normalisation with a momentum of 0: the running statistics are those of no data."""
    digits = data.digits(images=True)
    model = cnn(trial.width(8))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0 if trial.broken else 0.1
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("EvalModeInTraining", onset=9)
def dropout_in_validation(trial: Trial) -> None:
    """model.eval() is missing: validation is done with dropout."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10, normalise=True, dropout=0.4)
    loss_module = nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters())
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for step in range(60):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_module(model(x), y)
            backward(loss)
            optimizer.step()
            scalars = {}
            if step % 10 == 9:
                model.train(trial.broken)
                with torch.no_grad(), monitor.phase("eval"):
                    scalars["val_loss"] = loss_module(model(digits.held_x), digits.held_y)
                model.train()
            monitor.step(loss=loss, **scalars)


@CASES.fault("CollapsedOutput", "Underfitting", "LossNotDecreasing")
def softmax_before_cross_entropy(trial: Trial) -> None:
    """Cross entropy takes logits; it gets probabilities."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    if trial.broken:
        model.append(nn.Softmax(1))
    optimizer = trial.optimizer(model.parameters(), "sgd", among=PLAIN)
    Fit(steps=120)(trial, model, optimizer, digits.batches())


@CASES.fault("CollapsedOutput", "Underfitting", "LossNotDecreasing")
def targets_broadcast(trial: Trial) -> None:
    """Predictions (N, 1) against targets (N,): every prediction is compared with every target."""
    diabetes = data.standardised("diabetes")
    y = diabetes.y.squeeze(1) if trial.broken else diabetes.y
    model = mlp(10, trial.width(64), trial.width(64), 1)
    optimizer = trial.optimizer(model.parameters(), "adam")
    Fit(steps=120, loss=nn.MSELoss())(trial, model, optimizer, data.batches(diabetes.x, y))
