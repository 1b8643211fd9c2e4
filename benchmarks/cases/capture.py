"""What a monitor costs a training loop: step times with and without one, in turns, on the same model."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensometer
import torch

from benchmarks import answers
from benchmarks.harness import Case, Side
from benchmarks.scale import Scale
from benchmarks.training import NETWORKS, ByHand, Training

# Steps between two looks at the clock: long enough that a look costs nothing, short enough for many turns.
BLOCK = 10
# Beside the defaults, which have histograms: all of small tensors, an eighth of the elements of large ones.
EVERYTHING = {"updates": True, "activations": True}


def watched(training: Training, **settings: Any) -> Side:
    """Steps under a monitor; what it wrote is deleted between the batches."""
    monitors: list[tensometer.Monitor] = []

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder, tensometer.Monitor(Path(folder) / "run", **settings) as monitor:
            monitor.attach(training.model, optimizer=training.optimizer, loss=training.loss)
            monitors[:] = [monitor]
            monitor.step(loss=training.step())  # the first allocates what the others use again
            yield

    def steps() -> None:
        (monitor,) = monitors
        for _ in range(BLOCK):
            monitor.step(loss=training.step())

    return Side("", steps, context)


def named(name: str, side: Side, threads: int) -> Side:
    """The side under its name, with torch's threads set."""

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with side.context():
                yield
        finally:
            torch.set_num_threads(before)

    return Side(name, side.call, context)


def training_case(network: str, threads: int, scale: Scale) -> Case:
    """One network: no monitor, everything default on every step, everything there is, rules, and reductions by hand."""
    torch.manual_seed(0)
    training = NETWORKS[network](tiny=scale.rounds == 1)
    by_hand = ByHand(training.model)

    def plain() -> None:
        for _ in range(BLOCK):
            training.step()

    @contextlib.contextmanager
    def warm() -> Iterator[None]:
        training.step()
        yield

    def numpy() -> None:
        for _ in range(BLOCK):
            training.step()
            by_hand.step()
        by_hand.rows.clear()

    sides = (
        named("no monitor", Side("", plain, warm), threads),
        named("default", watched(training, every=1), threads),
        named("everything", watched(training, every=1, collections=EVERYTHING), threads),
        named("rules", watched(training, every=1, rules=True), threads),
        named("NumPy by hand", Side("", numpy, warm), threads),
    )
    parameters = sum(parameter.numel() for parameter in training.model.parameters())
    return Case(BLOCK * parameters, 4 * BLOCK * parameters, sides, lambda: _check(training), turns=2)


def _check(training: Training) -> None:
    """A run read back from disk has the rows it should have, and NumPy's statistics."""
    by_hand = ByHand(training.model)
    with tempfile.TemporaryDirectory() as folder:
        with tensometer.Monitor(folder, every=1, strict=True) as monitor:
            monitor.attach(training.model, optimizer=training.optimizer, loss=training.loss)
            for _ in range(2):
                loss = training.step()
                by_hand.step()
                monitor.step(loss=loss)
        run = tensometer.open_run(folder)
        answers.same("steps", run.steps().tolist(), [0, 1])
        answers.close("loss", float(run.series("loss")["mean"][1]), loss.item(), 1e-12)
        for row in by_hand.rows[len(by_hand.rows) // 2 :]:
            collections = ("gradients",) if row["kind"] == "gradient" else ("weights", "biases")
            keys = [key for c in collections for key in run.tensors(c) if key.name == row["name"]]
            answers.same(f"rows of {row['name']}", len(keys), 1)
            series = run.series(row["name"], collection=keys[0].collection)
            answers.close(f"norm of {row['name']}", float(series["l2"][1]), float(row["norm"]), answers.PEERS)
            answers.close(f"maximum of {row['name']}", float(series["max"][1]), float(row["max"]), 0)


def not_sampled(scale: Scale) -> Case:
    """What is left of a monitor on a step that is not captured, beside the step's own time."""
    torch.manual_seed(0)
    training = NETWORKS["MLP"](tiny=scale.rounds == 1)
    monitors: list[tensometer.Monitor] = []

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder, tensometer.Monitor(folder, start=10**9) as monitor:
            monitor.attach(training.model, optimizer=training.optimizer, loss=training.loss)
            monitors[:] = [monitor]
            yield

    def check() -> None:
        with context():
            for _ in range(3):
                monitors[0].step(loss=training.step())
            answers.same("what hooks the model has", sum(len(m._forward_hooks) for m in training.model.modules()), 0)
            answers.same("whether anything is captured", monitors[0].overhead, 0.0)

    def hooks() -> None:
        """What the optimizer's hook and monitor.step() do on such a step."""
        for hook in training.optimizer._optimizer_step_pre_hooks.values():
            hook(training.optimizer, (training.optimizer,), {})
        monitors[0].step(loss=0.5)

    return Case(1, 1, (named("training step", Side("", training.step), 1), Side("monitor", hooks, context)), check)


CASES = {
    f"training: {network}, {threads} thread{'s' * (threads > 1)}": (
        lambda scale, network=network, threads=threads: training_case(network, threads, scale)
    )
    for threads in (1, 2)
    for network in NETWORKS
} | {"a step that is not captured": not_sampled}
