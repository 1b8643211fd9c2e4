"""Faults of numbers: NaN, the ends of dtypes, and a bit that turns over."""

import torch
from torch import Tensor, nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, Cases, Trial
from benchmarks.detection.data import Batches
from benchmarks.detection.loop import Fit, at, backward
from benchmarks.detection.models import Language, cnn, initialise, linears, mlp

CASES = Cases()


@CASES.fault("NonFinite", onset=20)
def nan_in_a_batch(trial: Trial) -> None:
    """One missing value in one batch."""
    digits = data.digits()

    def batches() -> Batches:
        for step, (x, y) in enumerate(digits.batches()):
            if trial.broken and step == 20:
                x[3, 30] = float("nan")
            yield x, y

    model = mlp(64, trial.width(64), 10)
    Fit(steps=40)(trial, model, trial.optimizer(model.parameters()), batches())


class LogOfShares(nn.Module):
    """The negative logarithm of the right class's share of all outputs. floor: added to outputs."""

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        outputs = outputs + self.floor
        shares = outputs / outputs.sum(1, keepdim=True)
        return -shares.gather(1, y.unsqueeze(1)).log().mean()


@CASES.fault("NonFinite")
def logarithm_of_zero(trial: Trial) -> None:
    """Probabilities that a ReLU makes are 0 now and then."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10).append(nn.ReLU())
    optimizer = trial.optimizer(model.parameters(), among=ADAPTIVE)
    Fit(steps=40, loss=LogOfShares(0.0 if trial.broken else 0.1))(trial, model, optimizer, digits.batches())


@CASES.fault("NonFinite")
def divided_by_no_deviation(trial: Trial) -> None:
    """Standardising pixels that are 0 in every picture: 0/0."""
    x, y = data.raw("digits")
    deviation = x.std(0) if trial.broken else x.std(0).clamp_min(1.0)
    digits = data.split((x - x.mean(0)) / deviation, y)
    model = mlp(64, trial.width(64), 10)
    Fit(steps=40)(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("NonFinite", onset=25)
def square_root_at_zero(trial: Trial) -> None:
    """A norm as a penalty, of something that is exactly 0 from some step on: its gradient is 0/0."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    last = linears(model)[-1]
    loss_module = nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters(), "sgd", among=("sgd", "adam"))
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for step in range(45):
            x, y = next(batches)
            optimizer.zero_grad()
            apart = last.bias - (last.bias.detach() if step >= 25 else 0.1)
            penalty = (apart.pow(2).sum() + (0.0 if trial.broken else 1e-12)).sqrt()
            loss = loss_module(model(x), y) + 0.01 * penalty
            backward(loss)
            optimizer.step()
            monitor.step(loss=loss)


def _in_half_precision(trial: Trial, model: nn.Module, scale: float, batches: Batches, steps: int = 60) -> None:
    """Weights and gradients in float16, a scaled loss, and float32 masters that the optimizer has."""
    masters = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = trial.optimizer(masters, among=("adam", "adamw", "sgd"))
    model.half()
    loss_module = nn.CrossEntropyLoss()
    with trial.monitor() as monitor:
        monitor.attach(model, loss=loss_module)
        for _ in range(steps):
            x, y = next(batches)
            model.zero_grad()
            loss = loss_module(model(x.half()).float(), y)
            backward(loss * scale)
            for master, parameter in zip(masters, model.parameters(), strict=True):
                assert parameter.grad is not None
                master.grad = parameter.grad.float() / scale
            optimizer.step()
            with torch.no_grad():
                for master, parameter in zip(masters, model.parameters(), strict=True):
                    parameter.copy_(master)
            monitor.step(loss=loss)


@CASES.fault("DtypeUnderflow")
def float16_gradients_underflow(trial: Trial) -> None:
    """A loss that is weighted by 1e-5, without scaling: most gradients are below what float16 has."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    _in_half_precision(trial, model, 1e-5 if trial.broken else 256.0, digits.batches())


@CASES.fault("DtypeOverflow", "NonFinite")
def float16_activations_overflow(trial: Trial) -> None:
    """Activations of some ten thousands: float16 ends at 65504."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    initialise(linears(model))
    if trial.broken:
        with torch.no_grad():
            linears(model)[0].weight.mul_(120.0)
            linears(model)[1].weight.mul_(30.0)
            linears(model)[2].weight.mul_(1 / 3600)
    _in_half_precision(trial, model, 64.0, digits.batches())


@CASES.fault("DtypeOverflow", "NonFinite")
def float16_loss_scaled_too_far(trial: Trial) -> None:
    """A fixed scale near the end of float16: gradients reach it."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    _in_half_precision(trial, model, 2.0**18 if trial.broken else 256.0, digits.batches())


def _flip(parameter: Tensor, row: int, column: int, power: int) -> None:
    with torch.no_grad():
        parameter[row, column] *= 2.0**power


@CASES.fault("FlippedBit", onset=30)
def bit_flipped_in_an_exponent(trial: Trial) -> None:
    """One weight is 2^64 times larger from one step to the next."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    weight = linears(model)[1].weight
    fit = Fit(steps=45, before=at(30, lambda: _flip(weight, 5, 7, 64 if trial.broken else 0)))
    fit(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.fault("FlippedBit", onset=30)
def bit_flipped_lower(trial: Trial) -> None:
    """One weight of a convolution is 2^8 times larger."""
    digits = data.digits(images=True)
    model = cnn(trial.width(16))
    weight = model[4].weight
    assert isinstance(weight, Tensor)

    def flip() -> None:
        if trial.broken:
            with torch.no_grad():
                weight[3, 2, 1, 1] *= 2.0**8

    fit = Fit(steps=50, before=at(30, flip))
    fit(trial, model, trial.optimizer(model.parameters(), among=("adam", "adamw", "momentum")), digits.batches())


@CASES.fault("FlippedBit", onset=20)
def bit_flipped_in_a_transformer(trial: Trial) -> None:
    """One weight of a head is 2^16 times larger."""
    model = Language(trial.width(32), 1)
    fit = Fit(steps=35, flatten=True, before=at(20, lambda: _flip(model.head.weight, 4, 3, 16 if trial.broken else 0)))
    fit(trial, model, trial.optimizer(model.parameters(), "adamw", among=("adam", "adamw")), data.text())


class Pooled(nn.Module):
    """Characters, weighted by a softmax over those that are no padding. safe: an empty line is let through."""

    def __init__(self, width: int, *, safe: bool) -> None:
        super().__init__()
        self.embedding, self.score = nn.Embedding(data.vocabulary(), width, padding_idx=0), nn.Linear(width, 1)
        self.softmax, self.head, self.safe = nn.Softmax(1), nn.Linear(width, 2), safe

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        padding = (tokens == 0).unsqueeze(2)
        if self.safe:
            padding = padding & (tokens != 0).any(1).view(-1, 1, 1)
        weights = self.softmax(self.score(x).masked_fill(padding, float("-inf")))
        result: Tensor = self.head((weights * x).sum(1))
        return result


@CASES.fault("NonFinite", onset=25)
def a_line_of_nothing_but_padding(trial: Trial) -> None:
    """Every key of one query is masked: softmax of -inf alone is NaN."""

    def batches() -> Batches:
        for step, (x, _) in enumerate(data.text(32, 12)):
            tokens = x.clone()
            tokens[torch.rand(tokens.shape) < 0.2] = 0
            if step == 25:
                tokens[4] = 0
            # Whether there is padding in the first half: so it is in three of four.
            yield tokens, (tokens[:, :6] == 0).any(1).long()

    model = Pooled(trial.width(32), safe=not trial.broken)
    Fit(steps=45)(trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), batches())
