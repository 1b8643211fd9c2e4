"""Faults of data: scale, balance, labels, padding, single batches, too little data, too long a training."""

import math

import torch
from torch import Tensor, nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, ALL, PLAIN, Cases, Trial
from benchmarks.detection.data import Batches
from benchmarks.detection.loop import Fit, backward
from benchmarks.detection.models import Language, cnn, mlp

CASES = Cases()


@CASES.fault("DataNotNormalized")
def bytes_as_inputs(trial: Trial) -> None:
    """Pixels from 0 to 255."""
    x, y = data.raw("digits")
    pixels = (x * (255 / 16)).view(-1, 1, 8, 8)
    digits = data.split(pixels if trial.broken else (pixels - pixels.mean()) / pixels.std(), y)
    model = cnn(trial.width(8), normalise=False)
    Fit()(trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), digits.batches())


@CASES.fault("DataNotNormalized")
def raw_features(trial: Trial) -> None:
    """The features of breast cancer go from 0.001 to 4000."""
    x, y = data.raw("breast_cancer")
    x = x if trial.broken else (x - x.mean(0)) / x.std(0)
    cancer = data.split(x, y.float().unsqueeze(1))
    model = mlp(30, trial.width(32), 1)
    optimizer = trial.optimizer(model.parameters(), among=ADAPTIVE)
    Fit(loss=nn.BCEWithLogitsLoss())(trial, model, optimizer, cancer.batches())


@CASES.fault("DataNotNormalized")
def one_feature_not_scaled(trial: Trial) -> None:
    """Of standardised features one was forgotten: the proline of wines, some 750."""
    x, y = data.raw("wine")
    standard = (x - x.mean(0)) / x.std(0)
    if trial.broken:
        standard[:, 12] = x[:, 12]
    wine = data.split(standard, y)
    model = mlp(13, trial.width(32), 3)
    Fit()(trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), wine.batches())


@CASES.fault("AllZero", "LowVariance")
def inputs_divided_to_zero(trial: Trial) -> None:
    """Whole pixels divided by 255 as whole numbers: all are 0."""
    x, y = data.raw("digits")
    pixels = (x * (255 / 16)).long()
    digits = data.split((pixels // 256).float() if trial.broken else (pixels - 78.0) / 96.0, y)
    model = mlp(64, trial.width(64), 10)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("LowVariance", "CollapsedOutput")
def one_sample_over_and_over(trial: Trial) -> None:
    """A loader whose index is always 0: every row of every batch is the same picture."""
    digits = data.digits()
    x = digits.x[:1].expand_as(digits.x) if trial.broken else digits.x
    model = mlp(64, trial.width(64), 10)
    Fit()(trial, model, trial.optimizer(model.parameters()), data.batches(x, digits.y))


@CASES.fault("LowVariance", "DataNotNormalized")
def scaled_twice(trial: Trial) -> None:
    """Pixels divided by 255, and once more: their deviation is a thousandth."""
    x, y = data.raw("digits")
    pixels = x / 16
    digits = data.split(pixels / 255 if trial.broken else (pixels - 0.3) / 0.38, y)
    model = mlp(64, trial.width(64), 10)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("ClassImbalance")
def fifty_to_one(trial: Trial) -> None:
    """Two digits, one fifty times as frequent as the other."""
    x, y = data.raw("digits")
    x = (x - x.mean()) / x.std()
    many, few = x[y == 3], x[y == 8]
    if trial.broken:
        many, few = many.repeat(5, 1), few[:18]
    labels = torch.cat([torch.zeros(len(many)), torch.ones(len(few))]).long()
    digits = data.split(torch.cat([many, few]), labels)
    model = mlp(64, trial.width(32), 2)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("ClassImbalance")
def one_class_of_ten_rules(trial: Trial) -> None:
    """Ten classes, of which one has nine tenths of the rows."""
    x, y = data.raw("digits")
    x = (x - x.mean()) / x.std()
    if trial.broken:
        rows = torch.cat([(y == 1).nonzero().squeeze(1).repeat(10), (y != 1).nonzero().squeeze(1)[::8]])
        x, y = x[rows], y[rows]
    digits = data.split(x, y)
    model = mlp(64, trial.width(64), 10)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("Underfitting", "LossNotDecreasing")
def labels_shuffled(trial: Trial) -> None:
    """Labels that have lost their rows: there is nothing to learn but the classes' shares."""
    digits = data.digits()
    y = digits.y[torch.randperm(len(digits.y))] if trial.broken else digits.y
    model = mlp(64, trial.width(32), 10)
    optimizer = trial.optimizer(model.parameters(), among=("adam", "sgd", "adamw"))
    Fit(steps=120)(trial, model, optimizer, data.batches(digits.x, y))


@CASES.fault("ClassifierConfusion", "Underfitting")
def two_classes_mixed_up(trial: Trial) -> None:
    """Half of the 3s are labelled 8, and half of the 8s 3."""
    digits = data.digits()
    y = digits.y.clone()
    if trial.broken:
        pair = (y == 3) | (y == 8)
        swap = pair & (torch.rand(len(y)) < 0.5)
        y[swap] = 11 - y[swap]
    model = mlp(64, trial.width(64), 10)
    optimizer = trial.optimizer(model.parameters(), among=("adam", "adamw"))
    Fit(steps=150)(trial, model, optimizer, data.batches(digits.x, y))


def _padded(batches: Batches, length: int) -> Batches:
    """What is behind so many characters of a line is padding."""
    while True:
        x, y = next(batches)
        x, y = x.clone(), y.clone()
        x[:, length:], y[:, length:] = 0, 0
        yield x, y


@CASES.fault("TokenRatio")
def mostly_padding(trial: Trial) -> None:
    """Short lines in a batch that is as long as the longest: nine tenths are padding."""
    model = Language(trial.width(32))
    batches = _padded(data.text(), 3 if trial.broken else 28)
    optimizer = trial.optimizer(model.parameters(), "adamw", among=ADAPTIVE)
    Fit(steps=50, loss=nn.CrossEntropyLoss(ignore_index=0), flatten=True)(trial, model, optimizer, batches)


def _with(batches: Batches, when: int, spoilt: bool, x_scale: float = 1.0, classes: int = 0) -> Batches:
    """One batch is spoilt: its inputs scaled, or its labels drawn anew."""
    for step, (x, y) in enumerate(batches):
        bad = spoilt and step == when
        yield x * x_scale if bad else x, torch.randint(classes, y.shape) if bad and classes else y


@CASES.fault("BadStep", "GradientSpike", "LossSpike", onset=45)
def one_batch_a_thousand_times_larger(trial: Trial) -> None:
    """One batch was not scaled."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    batches = _with(digits.batches(), 45, trial.broken, x_scale=1000.0)
    Fit(steps=70)(trial, model, trial.optimizer(model.parameters()), batches)


@CASES.fault("BadStep", "GradientSpike", "LossSpike", onset=80)
def one_batch_of_random_labels(trial: Trial) -> None:
    """One batch has labels of other rows, late, when the network knows its classes."""
    digits = data.digits(images=True)
    model = cnn(trial.width(16))
    batches = _with(digits.batches(64), 80, trial.broken, classes=10)
    optimizer = trial.optimizer(model.parameters(), among=("adam", "adamw", "momentum"))
    Fit(steps=100)(trial, model, optimizer, batches)


@CASES.fault("GradientSpike", "LossSpike", "BadStep", onset=40)
def one_target_far_off(trial: Trial) -> None:
    """Regression, and a target with its decimal point lost."""
    diabetes = data.standardised("diabetes")

    def batches() -> Batches:
        for step, (x, y) in enumerate(diabetes.batches()):
            if trial.broken and step == 40:
                y[0] = 300.0
            yield x, y

    model = mlp(10, trial.width(64), 1)
    optimizer = trial.optimizer(model.parameters(), "sgd", rate=0.3, among=ALL[:4])
    Fit(steps=70, loss=nn.MSELoss())(trial, model, optimizer, batches())


def _fit_with_validation(
    trial: Trial, model: nn.Module, batches: Batches, held: tuple[Tensor, Tensor], steps: int, stop: int
) -> None:
    """Validate at every step.

    The onset is the step of the best validation, or the one from which on validation is worse than training by half.
    """
    loss_module = nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters(), "adam", among=("adam", "adamw", "momentum"))
    best, best_step, smooth, apart = float("inf"), 0, math.log(10), 0
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for step in range(steps if trial.broken else stop):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_module(model(x), y)
            backward(loss)
            optimizer.step()
            model.eval()
            with torch.no_grad():
                val_loss = float(loss_module(model(held[0]), held[1]))
            model.train()
            monitor.step(loss=loss, val_loss=val_loss)
            if val_loss < best:
                best, best_step = val_loss, step
            smooth += 0.1 * (float(loss) - smooth)
            if val_loss < 1.5 * smooth:
                apart = step + 1
    trial.onset = min(best_step, apart)


@CASES.fault("Overfitting", "Overtraining")
def overfitting(trial: Trial) -> None:
    """Forty digits, a fifth of them mislabelled, and a network with room for a thousand times as many."""
    digits = data.digits()
    count = 40 if trial.broken else len(digits.x)
    x, y = digits.x[:count], digits.y[:count].clone()
    if trial.broken:
        y[::5] = torch.randint(10, y[::5].shape)
    model = mlp(64, trial.width(256), trial.width(256), 10)
    _fit_with_validation(trial, model, data.batches(x, y, 20), digits.held, 120, 60)


@CASES.fault("Overtraining", "Overfitting")
def trained_for_too_long(trial: Trial) -> None:
    """Training goes on long after the validation loss was best; the twin stops there."""
    x, y = data.raw("breast_cancer")
    cancer = data.split((x - x.mean(0)) / x.std(0), y)
    model = mlp(30, trial.width(128), trial.width(128), 2)
    noisy = cancer.y[:96].clone()
    noisy[::8] = 1 - noisy[::8]
    _fit_with_validation(trial, model, data.batches(cancer.x[:96], noisy), cancer.held, 150, 12)


@CASES.fault("Underfitting", "LossNotDecreasing", "CollapsedOutput")
def too_small_to_learn(trial: Trial) -> None:
    """One unit of ReLU between 64 pixels and ten classes, and dropout in front of it."""
    digits = data.digits()
    model = nn.Sequential(nn.Dropout(0.95), mlp(64, 1, 10)) if trial.broken else mlp(64, trial.width(64), 10)
    optimizer = trial.optimizer(model.parameters(), "adam", among=("adam", "adamw", "sgd", "momentum"))
    Fit(steps=150)(trial, model, optimizer, digits.batches())


@CASES.fault("CollapsedOutput", "DyingReLU", "AllZero")
def last_layer_behind_a_relu(trial: Trial) -> None:
    """Targets around 0 behind a ReLU whose units are all off: the prediction is 0 for everybody."""
    diabetes = data.standardised("diabetes")
    model = mlp(10, trial.width(64), 1)
    if trial.broken:
        nn.init.constant_(model[-1].bias, -5.0)  # type: ignore[arg-type]
        model.append(nn.ReLU())
    optimizer = trial.optimizer(model.parameters(), "sgd", among=PLAIN)
    Fit(loss=nn.MSELoss())(trial, model, optimizer, diabetes.batches())


@CASES.fault("ClassImbalance", "CollapsedOutput")
def sorted_by_class(trial: Trial) -> None:
    """Nobody shuffles: first all zeros come, then all ones, and so on."""
    digits = data.digits()
    order = digits.y.argsort() if trial.broken else torch.arange(len(digits.y))

    def batches() -> Batches:
        while True:
            for part in torch.split(order, 32)[:-1]:
                yield digits.x[part], digits.y[part]

    model = mlp(64, trial.width(64), 10)
    Fit(steps=90)(trial, model, trial.optimizer(model.parameters(), among=("adam", "sgd", "momentum")), batches())
