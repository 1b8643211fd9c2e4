"""Healthy runs as people write them every day, with parts that a rule could take for a fault."""

import copy

import torch
from torch import Tensor, nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, Cases, Trial, parameters_of
from benchmarks.detection.loop import Fit, backward, train_before
from benchmarks.detection.models import Residual, cnn, mlp

CASES = Cases()


class Probe(nn.Module):
    """A head on a body that is called under no_grad(), and not frozen."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.body(x)
        result: Tensor = self.head(features)
        return result


@CASES.healthy
def linear_probe(trial: Trial) -> None:
    """A body that was trained before, under no_grad(); the optimizer has the head alone."""
    digits = data.digits(images=True)
    body = cnn(trial.width(8))
    train_before(body, digits.batches(), 40)
    model = Probe(body, nn.Linear(10, 10))
    Fit(steps=80)(trial, model, trial.optimizer(model.head.parameters(), rate=3), digits.batches())


class Sometimes(nn.Module):
    """A residual block that is left out at random: stochastic depth."""

    def __init__(self, width: int, keep: float) -> None:
        super().__init__()
        self.block, self.keep = Residual(width), keep

    def forward(self, x: Tensor) -> Tensor:
        called = not self.training or bool(torch.rand(()) < self.keep)
        result: Tensor = self.block(x) if called else x
        return result if self.training else self.keep * result + (1 - self.keep) * x


@CASES.healthy
def stochastic_depth(trial: Trial) -> None:
    """Deeper blocks are called ever less often, the last one once in five steps."""
    digits = data.digits()
    wide = trial.width(32)
    blocks = [Sometimes(wide, keep) for keep in (0.9, 0.7, 0.5, 0.35, 0.2)]
    model = nn.Sequential(nn.Linear(64, wide), *blocks, nn.Linear(wide, 10))
    Fit(steps=100, held=digits.held)(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.healthy
def targets_far_from_one(trial: Trial) -> None:
    """A regression to targets of deviation 20 around 50: the last layer learns their scale."""
    diabetes = data.standardised("diabetes")
    model = mlp(10, trial.width(64), trial.width(64), 1)
    optimizer = trial.optimizer(model.parameters(), "adam", rate=3, among=ADAPTIVE)
    fit = Fit(steps=150, loss=nn.MSELoss())
    fit(trial, model, optimizer, data.batches(diabetes.x, 50 + 20 * diabetes.y, 32))


@CASES.healthy
def counts(trial: Trial) -> None:
    """A Poisson regression to counts, whose loss is below zero at the end."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 1)
    fit = Fit(steps=100, loss=nn.PoissonNLLLoss())
    optimizer = trial.optimizer(model.parameters(), among=("adam", "adamw"))
    fit(trial, model, optimizer, data.batches(digits.x, digits.y.float().unsqueeze(1), 32))


@CASES.healthy
def a_margin_that_is_reached(trial: Trial) -> None:
    """A hinge loss is exactly zero for batches that are classified with a margin."""
    wine = data.standardised("wine")
    model = mlp(13, trial.width(64), 3)
    fit = Fit(steps=150, loss=nn.MultiMarginLoss())
    fit(trial, model, trial.optimizer(model.parameters(), among=("adam", "adamw")), wine.batches(16))


@CASES.healthy
def thawed_halfway(trial: Trial) -> None:
    """The body is frozen for forty steps, then it is trained as well, by a smaller rate."""
    digits = data.digits()
    wide = trial.width(64)
    body, head = mlp(64, wide, wide), nn.Linear(wide, 10)
    model = nn.Sequential(body, nn.ReLU(), head)
    train_before(model, digits.batches(), 30)
    body.requires_grad_(False)
    nn.init.zeros_(head.bias)
    nn.init.normal_(head.weight, std=wide**-0.5)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)

    def thaw(step: int) -> None:
        if step == 40:
            body.requires_grad_(True)
            optimizer.add_param_group({"params": [*body.parameters()], "lr": 3e-4})

    Fit(steps=90, before=thaw)(trial, model, optimizer, digits.batches())


@CASES.healthy
def triangular_rates(trial: Trial) -> None:
    """The rate rises and falls between a tenth and all of it, twice."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    fit = Fit(steps=120, schedule=lambda step: 0.1 + 0.9 * (1 - abs(step % 60 / 30 - 1)))
    fit(trial, model, trial.optimizer(model.parameters(), "momentum"), digits.batches())


@CASES.healthy
def weighted_classes(trial: Trial) -> None:
    """Rare classes weigh more: the constant's loss is not the entropy of the labels."""
    digits = data.digits()
    kept = (digits.y < 7) | (torch.rand(len(digits.y)) < 0.3)
    weights = torch.tensor([1.0] * 7 + [3.3] * 3)
    model = mlp(64, trial.width(128), 10)
    fit = Fit(steps=120, loss=nn.CrossEntropyLoss(weights), held=digits.held)
    fit(trial, model, trial.optimizer(model.parameters()), data.batches(digits.x[kept], digits.y[kept], 64))


@CASES.healthy
def small_table_of_words(trial: Trial) -> None:
    """Sentences of words that are seldom seen: nothing is learned until their rows have been met often enough."""
    wide = trial.width(16)
    model = nn.Sequential(nn.EmbeddingBag(600, wide), nn.Linear(wide, 2))
    words = torch.randint(600, (3000, 12))
    labels = ((words % 2).sum(1) > 6).long()
    optimizer = trial.optimizer(model.parameters(), among=("adam", "adamw"))
    Fit(steps=150)(trial, model, optimizer, data.batches(words, labels, 32))


@CASES.healthy
def sharpness_aware(trial: Trial) -> None:
    """Each update takes its gradient where a first one has led: two backward passes, and weights moved back."""
    digits = data.digits()
    model, loss_module = mlp(64, trial.width(64), trial.width(64), 10), nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters(), "momentum", among=("momentum", "sgd", "adam"))
    batches, parameters = digits.batches(), [*model.parameters()]
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for _ in range(90):
            x, y = next(batches)
            backward(loss_module(model(x), y))
            with torch.no_grad():
                norm = torch.stack([one.grad.norm() for one in parameters if one.grad is not None]).norm()
                moves = [0.05 * one.grad / norm for one in parameters if one.grad is not None]
                for one, move in zip(parameters, moves, strict=True):
                    one.add_(move)
            optimizer.zero_grad()
            loss = loss_module(model(x), y)
            backward(loss)
            with torch.no_grad():
                for one, move in zip(parameters, moves, strict=True):
                    one.sub_(move)
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss=loss)


class Pair(nn.Module):
    """A student and the teacher that follows it."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, copy.deepcopy(student).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.student(x)
        return result


@CASES.healthy
def mean_teacher(trial: Trial) -> None:
    """A frozen copy is the running mean of the model, whose predictions it holds in place."""
    digits = data.digits()
    model, loss_module = Pair(mlp(64, trial.width(64), trial.width(64), 10)), nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.student.parameters())
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for _ in range(100):
            x, y = next(batches)
            optimizer.zero_grad()
            logits = model(x + 0.1 * torch.randn_like(x))
            with torch.no_grad():
                taught = model.teacher(x)
            loss = loss_module(logits, y) + (logits.softmax(1) - taught.softmax(1)).pow(2).mean()
            backward(loss)
            optimizer.step()
            with torch.no_grad():
                for old, new in zip(model.teacher.parameters(), model.student.parameters(), strict=True):
                    old.lerp_(new, 0.05)
            monitor.step(loss=loss)


@CASES.healthy
def two_tasks_in_turn(trial: Trial) -> None:
    """One body, two heads: each step trains one of them, with a loss of its own size."""
    digits, loss_module = data.digits(), nn.CrossEntropyLoss()
    wide = trial.width(64)
    body, heads = nn.Sequential(nn.Linear(64, wide), nn.ReLU()), (nn.Linear(wide, 10), nn.Linear(wide, 2))
    model = nn.ModuleDict({"body": body, "digit": heads[0], "parity": heads[1]})
    optimizer = trial.optimizer(parameters_of(body, *heads))
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer)
        for step in range(120):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_module(heads[step % 2](body(x)), y % 2 if step % 2 else y)
            backward(loss)
            optimizer.step()
            monitor.step(loss=loss)
