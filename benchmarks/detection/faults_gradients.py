"""Faults of depth, initialisation and activation functions, as DeepLocalize, AUTOTRAINER and UMLAUT collect them."""

import torch
from torch import nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, PLAIN, Cases, Trial
from benchmarks.detection.loop import Fit
from benchmarks.detection.models import Recurrent, initialise, linears, mlp

CASES = Cases()


@CASES.fault("VanishingGradient")
def deep_sigmoid(trial: Trial) -> None:
    """Each sigmoid passes on a quarter of the gradient at most."""
    digits = data.digits()
    sizes = (64, *[trial.width(64)] * (12 if trial.broken else 2), 10)
    model = mlp(*sizes, activation=nn.Sigmoid)
    Fit()(trial, model, trial.optimizer(model.parameters(), among=("adam", "adamw")), digits.batches())


@CASES.fault("VanishingGradient", "PoorInitialization")
def deep_tanh_of_small_weights(trial: Trial) -> None:
    """Every layer makes signals and gradients ten times smaller."""
    digits = data.digits()
    model = mlp(64, *[trial.width(64)] * 8, 10, activation=nn.Tanh)
    gain = 0.1 if trial.broken else 1.0
    for layer in linears(model):
        nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)
    Fit()(trial, model, trial.optimizer(model.parameters(), "momentum", among=PLAIN), digits.batches())


@CASES.fault("VanishingGradient", "PoorInitialization")
def deep_relu_of_small_weights(trial: Trial) -> None:
    """Normal weights of deviation 0.01, as old tutorials have them, in ten layers."""
    digits = data.digits()
    model = mlp(64, *[trial.width(48)] * 9, 10)
    initialise(linears(model), 0.01 if trial.broken else None)
    Fit()(trial, model, trial.optimizer(model.parameters(), "sgd", rate=0.2, among=PLAIN), digits.batches())


@CASES.fault("ExplodingGradient", "PoorInitialization", "UpdatesTooLarge", "NonFinite")
def huge_initialisation(trial: Trial) -> None:
    """Normal weights of deviation 1: every layer makes signals some six times larger."""
    digits = data.digits()
    model = mlp(64, *[trial.width(64)] * 6, 10)
    initialise(linears(model), 1.0 if trial.broken else None)
    Fit()(trial, model, trial.optimizer(model.parameters(), "sgd", rate=0.3, among=PLAIN), digits.batches())


@CASES.fault("PoorInitialization", "ExplodingGradient")
def one_layer_of_huge_weights(trial: Trial) -> None:
    """One layer of five is a hundred times larger than the others."""
    digits = data.digits()
    wide = trial.width(64)
    model = mlp(64, wide, wide, wide, 10)
    initialise(linears(model))
    if trial.broken:
        with torch.no_grad():
            linears(model)[1].weight.mul_(100)
    Fit()(trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), digits.batches())


@CASES.fault("IdenticalUnits", "PoorInitialization")
def constant_initialisation(trial: Trial) -> None:
    """All units of a layer begin alike, and stay alike."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(32), 10)
    if trial.broken:
        for layer in linears(model):
            nn.init.constant_(layer.weight, 0.05)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("IdenticalUnits", "PoorInitialization", "AllZero")
def zero_initialisation(trial: Trial) -> None:
    """All weights are zero: only the last bias learns."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    if trial.broken:
        for layer in linears(model):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    Fit()(trial, model, trial.optimizer(model.parameters(), "sgd"), digits.batches())


@CASES.fault("IdenticalUnits", "PoorInitialization")
def copied_units(trial: Trial) -> None:
    """A layer was widened by copying its units, tanh behind it: the copies stay copies."""
    digits = data.digits()
    wide = trial.width(64)
    model = mlp(64, wide, 32, 10, activation=nn.Tanh)
    if trial.broken:
        first, second = linears(model)[:2]
        with torch.no_grad():
            for tensor in (first.weight, first.bias):
                tensor[wide // 2 :] = tensor[: wide // 2]
            second.weight[:, wide // 2 :] = second.weight[:, : wide // 2]
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("DyingReLU", "AllZero")
def relu_of_negative_biases(trial: Trial) -> None:
    """Biases so far below zero that no input lifts a unit over it."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    initialise(linears(model))
    if trial.broken:
        nn.init.constant_(linears(model)[1].bias, -20.0)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("DyingReLU", "UpdatesTooLarge", onset=1)
def relu_killed_by_a_huge_step(trial: Trial) -> None:
    """The first steps are a hundred times too long; afterwards most units are off for every input."""
    digits = data.digits()
    model = mlp(64, trial.width(96), trial.width(96), trial.width(96), 10)
    rate = 100.0 if trial.broken else 1.0
    optimizer = trial.optimizer(model.parameters(), "sgd", among=("sgd", "adam"))
    fit = Fit(schedule=lambda step: rate if step < 3 else 1.0)
    fit(trial, model, optimizer, digits.batches())


@CASES.fault("DyingReLU", "AllZero")
def gelu_of_negative_biases(trial: Trial) -> None:
    """The same of GELU, whose units do not end at zero quite."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10, activation=nn.GELU)
    if trial.broken:
        nn.init.constant_(linears(model)[1].bias, -12.0)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("TanhSaturation", "DataNotNormalized")
def tanh_of_raw_features(trial: Trial) -> None:
    """The wine's features go to 1680: every tanh is at its end."""
    x, y = data.raw("wine")
    wine = data.split(x if trial.broken else (x - x.mean(0)) / x.std(0), y)
    model = mlp(13, trial.width(64), trial.width(32), 3, activation=nn.Tanh)
    Fit()(trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), wine.batches())


@CASES.fault("TanhSaturation", "PoorInitialization")
def tanh_of_huge_weights(trial: Trial) -> None:
    """Weights of deviation 3 drive every tanh to its end."""
    digits = data.digits()
    wide = trial.width(64)
    model = mlp(64, wide, wide, 10, activation=nn.Tanh)
    if trial.broken:
        initialise(linears(model)[:2], 3.0)
    Fit()(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("SigmoidSaturation", "PoorInitialization")
def sigmoid_of_huge_weights(trial: Trial) -> None:
    """Weights of deviation 5 in front of sigmoids."""
    digits = data.digits()
    wide = trial.width(64)
    model = mlp(64, wide, wide, 10, activation=nn.Sigmoid)
    if trial.broken:
        initialise(linears(model)[:2], 5.0)
    Fit()(trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), digits.batches())


@CASES.fault("ExplodingGradient", "GradientSpike", "PoorInitialization", "UpdatesTooLarge", "NonFinite")
def recurrent_weights_too_large(trial: Trial) -> None:
    """A recurrent network of ReLUs whose state grows by half at every character."""
    wide = trial.width(48)
    model = Recurrent(wide, nn.RNN, nonlinearity="relu")
    gain = 1.6 if trial.broken else 1.0
    with torch.no_grad():
        model.recurrent.get_parameter("weight_hh_l0").copy_(gain * torch.eye(wide))
    Fit(flatten=True)(trial, model, trial.optimizer(model.parameters(), "sgd", among=PLAIN, rate=0.5), data.text())
