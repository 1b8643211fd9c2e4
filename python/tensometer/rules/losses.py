"""What rules about losses share: which number is the one that is trained, and medians of short windows of it."""

import math
import re
from collections.abc import Sequence
from functools import cache

from tensometer.rules.group import TRAIN
from tensometer.rules.state import State
from tensometer.rules.step import Step

_HELD_OUT = re.compile(r"(?:^|[^a-z])(?:val|valid|validation|eval|evaluation|test|dev|holdout)(?:[^a-z]|$)")
# Of metrics only those of which less is better; of losses that is meant by the word.
_LESS_IS_BETTER = re.compile(r"(?:^|[^a-z])(?:error|err|perplexity|ppl|nll|mse|mae|rmse|cross_?entropy)(?:[^a-z]|$)")
_DEVIATIONS = ("-std", "_std")
# Of several losses, the one that stands for them.
_WHOLE = ("loss", "train_loss", "training_loss", "total_loss", "loss_total", "train/loss", "loss/train")


@cache
def held_out(name: str) -> bool:
    """Whether a loss or metric says by its name that it is of data that the model is not trained on."""
    return _HELD_OUT.search(name.lower()) is not None


@cache
def _less_is_better(name: str) -> bool:
    return _LESS_IS_BETTER.search(name.lower()) is not None


def training_loss(step: Step) -> tuple[str, float] | None:
    """The loss that the step trained, if it is plain which: finite, and of a model that is trained to make it small.

    None where several optimizers are at work: then their losses may be each other's adversaries.
    """
    losses = step.scalars("losses")
    names = [name for name in losses if not held_out(name)]
    if len(names) > 1:
        names = [name for name in _WHOLE if name in losses][:1]
    if not names or not math.isfinite(losses[names[0]]):
        return None
    if sum(name.endswith("optimizer_steps") for name in step.scalars("loop")) > 1:
        return None
    return names[0], losses[names[0]]


def held_out_losses(step: Step) -> dict[str, float]:
    """What the step tells of data that the model is not trained on, of which less is better; finite numbers only."""
    found = {name: value for name, value in step.scalars("losses").items() if held_out(name)}
    for name, value in step.scalars("metrics").items():
        if held_out(name) and _less_is_better(name) and not name.endswith(_DEVIATIONS):
            found[name] = value
    for phase in step.phases("losses"):
        if phase != TRAIN:
            found |= {f"{name} ({phase})": value for name, value in step.scalars("losses", phase).items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def remember(state: State, name: str, value: float, most: int) -> list[float]:
    """The last values under a name, with this one."""
    values: list[float] = state.get(name) or []
    values.append(value)
    del values[:-most]
    state[name] = values
    return values


def median(values: Sequence[float]) -> float:
    """The middle of some numbers, of an even count the larger of the two."""
    return sorted(values)[len(values) // 2]


def spread(values: Sequence[float]) -> float:
    """How far numbers lie from their median: the median distance, on the scale of a standard deviation."""
    middle = median(values)
    return 1.4826 * median([abs(value - middle) for value in values])


def came_back(level: float, peak: float, value: float, steps: int) -> bool:
    """Whether a loss that jumped from a level to a peak is back so many steps later: three quarters of the way or more.

    Another task is learned, and its loss comes down as well, but seldom by as much in one step. The more steps have
    passed since it jumped, the less of the jump may be left.
    """
    return value - level <= 0.25 / steps * (peak - level)


def trains_fully(step: Step, state: State) -> bool:
    """Whether the step trained at the full learning rate: it is neither rising to it nor has it decayed."""
    progress = step.progress
    peak, state["peak_rate"] = state.get("peak_rate", 0.0), progress.peak_rate
    rising = progress.peak_rate > 1.001 * peak > 0
    return progress.updated and not progress.skipped and progress.full_rate and not rising
