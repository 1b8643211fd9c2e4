"""What a case is, and what its program is given."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tensometer import Monitor
from torch import nn
from torch.optim import Optimizer

# Learning rates that suit networks of the sizes used here.
_MADE: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"lr": 3e-3}),
    "adamw": (torch.optim.AdamW, {"lr": 3e-3}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-3}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.02}),
}
ALL = tuple(_MADE)
PLAIN = ("sgd", "momentum")
ADAPTIVE = ("adam", "adamw", "rmsprop")
# Rules are tuned on these seeds. On others the programs have other widths and optimizers.
TUNED_SEEDS = (0, 1)
REFERENCE = "reference"
_WIDTHS = (0.5, 0.75, 1.5, 2.0)


@dataclass
class Trial:
    """One run of a case's program, by a seed; `broken`: with the fault in it.

    onset: a program whose fault begins at a step that it alone knows says it here.
    """

    case: str
    seed: int
    broken: bool
    place: Path
    settings: dict[str, Any] = field(default_factory=dict)
    onset: int | None = None

    def __post_init__(self) -> None:
        # The fault and its twin are of the same widths and optimizer.
        self._choice = None if self.seed in TUNED_SEEDS else random.Random(f"{self.case} {self.seed}")
        self._kind = random.Random(f"optimizer of {self.case} {self.seed}").random()

    def monitor(self, **settings: Any) -> Monitor:
        """The monitor of the run, or of one of its ranks."""
        return Monitor(self.place, **self.settings, **settings)

    def first(self) -> "Trial":
        """The trial of a run that this one repeats, by the same choices."""
        return replace(self, place=self.place.parent / REFERENCE)

    def width(self, usual: int) -> int:
        """A width near the usual one: that itself on the seeds that rules are tuned on."""
        return usual if self._choice is None else max(8, round(usual * self._choice.choice(_WIDTHS) / 8) * 8)

    def optimizer(
        self,
        parameters: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        usual: str = "adam",
        *,
        among: Sequence[str] = ALL,
        rate: float = 1.0,
        **options: Any,
    ) -> Optimizer:
        """The usual optimizer, or one among others, at `rate` times the learning rate that suits it."""
        name = usual if self._choice is None else among[int(self._kind * len(among))]
        kind, defaults = _MADE[name]
        return kind(parameters, **{**defaults, "lr": rate * defaults["lr"], **options})


@dataclass(frozen=True)
class Case:
    """A program and what is to be found in it.

    accepted: names of the rules that tell a person the right thing about the fault; none for a healthy run, which has
    no broken version. onset: the step at which the fault is there first.
    """

    name: str
    program: Callable[[Trial], None]
    accepted: frozenset[str] = frozenset()
    onset: int = 0

    @property
    def healthy(self) -> bool:
        """Whether nothing is to be found in it."""
        return not self.accepted


class Cases:
    """The cases of a file, in its order: functions under one of these decorators."""

    def __init__(self) -> None:
        self.all: list[Case] = []

    def fault(self, *accepted: str, onset: int = 0) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
        """A program with a fault where trial.broken, and the names of rules that tell it."""

        def put(program: Callable[[Trial], None]) -> Callable[[Trial], None]:
            self.all.append(Case(program.__name__, program, frozenset(accepted), onset))
            return program

        return put

    def healthy(self, program: Callable[[Trial], None]) -> Callable[[Trial], None]:
        """A program without a fault."""
        self.all.append(Case(program.__name__, program))
        return program


def parameters_of(*modules: nn.Module) -> list[nn.Parameter]:
    """The parameters of several modules."""
    return [parameter for module in modules for parameter in module.parameters()]
