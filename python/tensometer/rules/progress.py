"""How far a training is: what many rules must know before they judge."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# How strongly the smoothed loss leans on the present one: an average over some ten captured steps.
_SMOOTHING = 0.1


@dataclass
class Loss:
    """A loss so far: its first value, the present one, the best, the step of that, and a smoothed one."""

    first: float
    last: float
    best: float
    best_step: int
    smooth: float


@dataclass
class Progress:
    """What the steps so far tell of the training as a whole. Of losses and settings those of captured steps.

    observed: how many steps were captured, this one included. rate: the present learning rate, of several groups the
    largest; NaN if it is not known. peak_rate: the largest so far. rising: whether the rate is above that of the
    captured step before, as in a warm-up. updated: whether an optimizer has stepped, or nobody knows. counted: whether
    somebody knows, as where an optimizer is attached. updates: how many times that one did that stepped most often, at
    least 1. skipped: whether a gradient scaler kept it from its step. losses: by their names in the run.
    """

    observed: int = 0
    rate: float = math.nan
    peak_rate: float = 0.0
    rising: bool = False
    updated: bool = True
    counted: bool = False
    updates: float = 1.0
    skipped: bool = False
    losses: dict[str, Loss] = field(default_factory=dict)

    def follow(self, number: int, loop: Mapping[str, float], losses: Mapping[str, float]) -> None:
        """Take in a step, before rules judge it: the numbers of two of its collections."""
        self.observed += 1
        before = self.rate
        self.rate = max((value for name, value in loop.items() if "learning_rate/" in name), default=math.nan)
        self.rising = self.rate > before
        self.peak_rate = max(self.peak_rate, self.rate) if self.rate == self.rate else self.peak_rate
        steps = [value for name, value in loop.items() if name.endswith("optimizer_steps")]
        self.updated, self.counted = not steps or any(steps), bool(steps)
        self.updates = max([1.0, *steps])
        self.skipped = any(value for name, value in loop.items() if name.endswith("amp_skipped"))
        for name, value in losses.items():
            if math.isfinite(value):
                self._follow_loss(name, value, number)

    def _follow_loss(self, name: str, value: float, number: int) -> None:
        found = self.losses.get(name)
        if found is None:
            self.losses[name] = Loss(value, value, value, number, value)
            return
        found.last = value
        found.smooth += _SMOOTHING * (value - found.smooth)
        if value < found.best:
            found.best, found.best_step = value, number

    @property
    def full_rate(self) -> bool:
        """Whether the learning rate is at least half of the largest so far, not 0 and not rising; true if not known.

        Otherwise it is being warmed up or has decayed, and updates are small because somebody wants them so.
        """
        return self.rate != self.rate or (not self.rising and self.rate > 0 and self.rate >= 0.5 * self.peak_rate)

    def about_to_update(self) -> "Progress":
        """What holds when an optimizer is about to use the gradients of the step that comes next."""
        return dataclasses.replace(self, updated=True, counted=True, skipped=False)

    def values(self) -> dict[str, Any]:
        """Plain values, of which restored() makes an equal one."""
        return dataclasses.asdict(self)

    @classmethod
    def restored(cls, values: Mapping[str, Any]) -> "Progress":
        """Of what values() returned."""
        losses = {name: Loss(**one) for name, one in values["losses"].items()}
        return cls(**{**values, "losses": losses})
