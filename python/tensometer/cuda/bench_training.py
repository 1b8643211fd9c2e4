"""What capturing costs a training step: nothing, a Monitor, and copying all tensors to the CPU for NumPy."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensometer.cuda.bench_timing import Measured, Time, require
from tensometer.cuda.devices import wait
from tensometer.monitor import Monitor
from tensometer.store import open_run

NONE = "nothing"
_SEED = 7


@dataclass(frozen=True)
class Scale:
    """Of the networks and their batches."""

    width: int = 512
    layers: int = 6
    batch: int = 16
    tokens: int = 256
    hidden: int = 2048


@dataclass
class Training:
    """A model, its optimizer and one batch.

    after: what is done with the loss at the end of each step. dropped: how many summaries were not taken, as of a
    device that is too far behind.
    """

    model: Any
    optimizer: Any
    x: Any
    y: Any
    after: Callable[[Any], object] = field(default=lambda loss: None)
    dropped: Callable[[], int] = field(default=lambda: 0)

    def step(self) -> None:
        """One step of an ordinary loop."""
        import torch

        self.optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(self.model(self.x), self.y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.after(loss)


class ByHand:
    """Every weight and gradient copied to the CPU, and reduced by NumPy there."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.rows: dict[tuple[str, str], dict[str, float]] = {}

    def step(self, loss: Any) -> None:
        """Of this step; the rows are those of the last one."""
        del loss
        for name, parameter in self._model.named_parameters():
            of_model = "biases" if name.endswith("bias") else "weights"
            for kind, tensor in ((of_model, parameter), ("gradients", parameter.grad)):
                x = tensor.detach().cpu().numpy()
                norm = float((x.reshape(-1) @ x.reshape(-1)) ** 0.5)
                row = {"l2": norm, "mean": x.mean(), "std": x.std(), "nan": int((x != x).sum())}
                self.rows[kind, name] = row | {"min": x.min(), "max": x.max()}


def mlp(device: Any, scale: Scale) -> Training:
    """Four linear layers over one sample a token."""
    import torch

    torch.manual_seed(_SEED)
    sizes = (scale.width, scale.hidden, scale.hidden, scale.hidden, scale.width)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    return _training(torch.nn.Sequential(*layers[:-1]), (scale.batch * scale.tokens, scale.width), device)


def transformer(device: Any, scale: Scale) -> Training:
    """An encoder over sequences of vectors."""
    import torch

    torch.manual_seed(_SEED)
    layer = torch.nn.TransformerEncoderLayer(scale.width, 8, 4 * scale.width, dropout=0.0, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, scale.layers, enable_nested_tensor=False)
    return _training(model, (scale.batch, scale.tokens, scale.width), device)


NETWORKS: dict[str, Callable[[Any, Scale], Training]] = {"MLP": mlp, "transformer": transformer}


def _training(model: Any, shape: tuple[int, ...], device: Any) -> Training:
    import torch

    model = model.to(device)
    x, y = torch.randn(shape).to(device), torch.randn(shape).to(device)
    return Training(model, torch.optim.AdamW(model.parameters(), 1e-4), x, y)


def _monitored(training: Training, stack: ExitStack, folder: Path, **settings: Any) -> Training:
    monitor = stack.enter_context(Monitor(str(folder), **settings))
    monitor.attach(training.model, optimizer=training.optimizer)
    training.after, training.dropped = lambda loss: monitor.step(loss=loss), lambda: monitor.dropped
    return training


@contextmanager
def sides(network: Callable[[Any, Scale], Training], device: Any, scale: Scale) -> Iterator[dict[str, Training]]:
    """The same training, once a way of capturing it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        by_hand = network(device, scale)
        by_hand.after = ByHand(by_hand.model).step
        yield {
            NONE: network(device, scale),
            "Monitor, every tenth step (default)": _monitored(network(device, scale), stack, folder / "tenth"),
            "Monitor, every step": _monitored(network(device, scale), stack, folder / "every", every=1),
            "copied to the CPU, NumPy, every step": by_hand,
        }


def check(name: str, network: Callable[[Any, Scale], Training], device: Any, scale: Scale) -> None:
    """What a Monitor stores of two steps is what NumPy finds in the same tensors."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        training = network(device, scale)
        by_hand = ByHand(training.model)
        with ExitStack() as monitored:
            recorded = _monitored(training, monitored, folder, every=1).after

            def after(loss: Any) -> None:
                by_hand.step(loss)
                recorded(loss)

            training.after = after
            training.step()
            training.step()
        run = open_run(str(folder))
        for (kind, tensor), expected in by_hand.rows.items():
            series = run.series(tensor, collection=kind)
            require(list(series.steps) == [0, 1], f"{name}: {kind} of {tensor}: steps {list(series.steps)}, not 0, 1")
            for statistic in ("min", "max", "nan"):
                found = float(series[statistic][-1])
                right = found == float(expected[statistic])
                require(right, f"{name}: {statistic} of {kind} of {tensor} is {found}, not {expected[statistic]}")
            norm = float(series["l2"][-1])
            # NumPy adds in float32.
            right = abs(norm - expected["l2"]) <= 1e-3 * norm
            require(right, f"{name}: l2 of {kind} of {tensor} is {norm}, not {expected['l2']}")


def measure(
    name: str, device: Any, scale: Scale, rounds: int, steps: int, clock: Callable[[], float] = time.perf_counter
) -> Measured:
    """Wall clock of a step, over so many steps and the wait for the device behind them; the sides take turns."""
    network = NETWORKS[name]
    check(name, network, device, scale)
    times: dict[str, list[Time]] = {}
    with sides(network, device, scale) as trainings:
        for number in range(rounds + 1):
            order = list(trainings) if number % 2 == 0 else list(trainings)[::-1]
            for side in order:
                wait(device)
                start = clock()
                for _ in range(steps):
                    trainings[side].step()
                host = (clock() - start) / steps
                wait(device)
                if number > 0:  # the first round warms up
                    times.setdefault(side, []).append(Time((clock() - start) / steps, host))
        dropped = {side: training.dropped() for side, training in trainings.items()}
    return Measured(name, 0, {side: times[side] for side in trainings}, dropped)
