"""Healthy runs whose losses, batches or networks are unusual because somebody wants them so."""

import torch
from torch import Tensor, nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, Cases, Trial
from benchmarks.detection.data import Batches
from benchmarks.detection.loop import Fit, backward, cosine, train_before
from benchmarks.detection.models import cnn, linears, mlp

CASES = Cases()


@CASES.healthy
def another_task_in_the_midst(trial: Trial) -> None:
    """First the digits from 0 to 4, then those from 5 to 9: the loss jumps, and falls again."""
    digits = data.digits()
    first = digits.y < 5

    def batches() -> Batches:
        low = data.batches(digits.x[first], digits.y[first])
        high = data.batches(digits.x[~first], digits.y[~first])
        for step in range(120):
            yield next(low if step < 60 else high)

    model = mlp(64, trial.width(64), 10)
    optimizer = trial.optimizer(model.parameters(), among=("adam", "adamw", "sgd"))
    Fit(steps=120)(trial, model, optimizer, batches())


@CASES.healthy
def warm_restarts(trial: Trial) -> None:
    """The rate falls to 0 by a cosine and begins anew, three times."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    fall = cosine(30)
    fit = Fit(steps=90, schedule=lambda step: fall(step % 30))
    fit(trial, model, trial.optimizer(model.parameters(), "momentum"), digits.batches())


@CASES.healthy
def a_plateau_first(trial: Trial) -> None:
    """Small weights and plain descent: the loss stays where it is for a third of the training, then it falls."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10, activation=nn.Tanh)
    for layer in linears(model):
        nn.init.normal_(layer.weight, std=0.15 * layer.in_features**-0.5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)
    Fit(steps=150)(trial, model, optimizer, digits.batches())


@CASES.healthy
def one_sample_at_a_time(trial: Trial) -> None:
    """Batches of one: over such a batch every unit is constant, and there is one class."""
    digits = data.digits()
    model = mlp(64, trial.width(32), 10)
    optimizer = trial.optimizer(model.parameters(), "sgd", rate=0.1, among=("sgd", "adam"))
    Fit(steps=150)(trial, model, optimizer, digits.batches(1))


@CASES.healthy
def uneven_batches(trial: Trial) -> None:
    """The last batch of each pass is smaller."""
    wine = data.standardised("wine")

    def batches() -> Batches:
        while True:
            for part in torch.split(torch.randperm(len(wine.x)), 40):
                yield wine.x[part], wine.y[part]

    model = mlp(13, trial.width(32), trial.width(16), 3)
    Fit(steps=80, held=wine.held)(trial, model, trial.optimizer(model.parameters()), batches())


@CASES.healthy
def one_hot_inputs(trial: Trial) -> None:
    """Characters as one-hot vectors: nearly everything that goes in is 0."""

    def batches() -> Batches:
        for x, y in data.text(32, 8):
            yield nn.functional.one_hot(x, data.vocabulary()).float().flatten(1), y[:, -1]

    model = mlp(8 * data.vocabulary(), trial.width(64), data.vocabulary())
    Fit(steps=80)(trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), batches())


@CASES.healthy
def statistics_frozen_on_purpose(trial: Trial) -> None:
    """Fine-tuning with the normalisations, and they alone, in evaluation mode, as detectors have them."""
    digits = data.digits(images=True)
    model = cnn(trial.width(8))
    train_before(model, digits.batches(), 40)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    Fit(steps=60)(trial, model, trial.optimizer(parameters, rate=0.3), digits.batches())


class Highway(nn.Module):
    """A layer behind a gate that is all but closed at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.relu, self.sigmoid = nn.ReLU(), nn.Sigmoid()
        nn.init.constant_(self.gate.bias, -4.0)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.sigmoid(self.gate(x))
        result: Tensor = gate * self.relu(self.inner(x)) + (1 - gate) * x
        return result


@CASES.healthy
def gates_nearly_closed(trial: Trial) -> None:
    """A highway network: its sigmoids begin at 0.02 so that signals pass."""
    digits = data.digits()
    wide = trial.width(48)
    model = nn.Sequential(nn.Linear(64, wide), *(Highway(wide) for _ in range(6)), nn.Linear(wide, 10))
    Fit(steps=80)(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.healthy
def weight_normalised(trial: Trial) -> None:
    """Weights as a direction and a length."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    for layer in linears(model):
        nn.utils.parametrizations.weight_norm(layer)
    Fit(steps=80)(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.healthy
def policy_gradient(trial: Trial) -> None:
    """REINFORCE: which digit is it, told only right or wrong. The loss says nothing of how good it is."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    optimizer = trial.optimizer(model.parameters(), "adam", among=("adam", "adamw"))
    batches = digits.batches(64)
    baseline = 0.1
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer)
        for _ in range(120):
            x, y = next(batches)
            policy = torch.distributions.Categorical(logits=model(x))
            action = policy.sample()  # type: ignore[no-untyped-call]
            reward = (action == y).float()
            optimizer.zero_grad()
            loss = -((reward - baseline) * policy.log_prob(action)).mean()  # type: ignore[no-untyped-call]
            backward(loss)
            optimizer.step()
            baseline = 0.95 * baseline + 0.05 * float(reward.mean())
            monitor.step(loss=loss, reward=float(reward.mean()))


@CASES.healthy
def contrast_of_two_views(trial: Trial) -> None:
    """Two noisy views of a digit are to be alike, those of others not."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 32)
    optimizer = trial.optimizer(model.parameters(), "adam", among=("adam", "adamw"))
    batches = digits.batches(64)
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer)
        for _ in range(80):
            x, _ = next(batches)
            optimizer.zero_grad()
            a, b = (nn.functional.normalize(model(x + 0.3 * torch.randn_like(x)), dim=1) for _ in range(2))
            loss = nn.functional.cross_entropy(a @ b.T / 0.2, torch.arange(len(x)))
            backward(loss)
            optimizer.step()
            monitor.step(loss=loss)


@CASES.healthy
def double_precision(trial: Trial) -> None:
    """Regression in float64."""
    diabetes = data.standardised("diabetes")
    model = mlp(10, trial.width(32), 1, activation=nn.SiLU).double()
    optimizer = trial.optimizer(model.parameters(), "adam", among=ADAPTIVE)
    batches = data.batches(diabetes.x.double(), diabetes.y.double(), 64)
    Fit(steps=100, loss=nn.SmoothL1Loss(), clip=5.0)(trial, model, optimizer, batches)


@CASES.healthy
def distilled(trial: Trial) -> None:
    """A small network learns from a large one that is frozen and attached too."""
    digits = data.digits()
    teacher, student = mlp(64, 128, 10), mlp(64, trial.width(24), 10)
    train_before(teacher, digits.batches(), 60)
    teacher.requires_grad_(False).eval()
    optimizer = trial.optimizer(student.parameters(), "adam", rate=2, among=ADAPTIVE)
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(teacher, name="teacher")
        monitor.attach(student, optimizer=optimizer, name="student")
        for _ in range(80):
            x, _ = next(batches)
            optimizer.zero_grad()
            wanted = (teacher(x) / 2).softmax(1)
            loss = nn.functional.cross_entropy(student(x) / 2, wanted)
            backward(loss)
            optimizer.step()
            monitor.step(loss=loss)
