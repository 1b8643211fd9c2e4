"""What rules about validation share: how each loss of held-out data went so far, beside the training loss."""

from collections.abc import Iterator
from dataclasses import dataclass

from tensometer.rules.losses import held_out_losses, median, remember, training_loss
from tensometer.rules.state import State
from tensometer.rules.step import Step

# Medians of so many values: of evaluations, of training losses, of differences.
_SMOOTH = 3
_TRAINING = 5
_DIFFERENCES = 20


@dataclass(frozen=True)
class HeldOut:
    """A loss of held-out data, at an evaluation.

    count: evaluations so far. level, best: the median of the last three, and the smallest of these so far. since:
    evaluations since that. drop: how far the best lies below the first. noise: how much evaluations usually differ
    from one to the next. training, training_then: the training loss now and at the best.
    """

    name: str
    count: int
    level: float
    best: float
    since: int
    drop: float
    noise: float
    training: float
    training_then: float


def evaluations(step: Step, state: State) -> Iterator[HeldOut]:
    """The losses of held-out data that a step tells of. To be asked at every step: it follows the training loss."""
    trained = training_loss(step)
    if trained is not None:
        remember(state, "training", trained[1], _TRAINING)
    if not state.get("training"):
        return
    training = median(state["training"])
    for name, value in held_out_losses(step).items():
        last = state.get(f"last of {name}") or [value]
        noise = median(remember(state, f"differences of {name}", abs(value - last[-1]), _DIFFERENCES))
        level = median(remember(state, f"last of {name}", value, _SMOOTH))
        count, first, best, then, at = state.get(f"course of {name}", [0, value, value, training, 0])
        count += 1
        if level < best or count <= _SMOOTH:
            best, then, at = level, training, count
        state[f"course of {name}"] = [count, first, best, then, at]
        yield HeldOut(name, count, level, best, count - at, first - best, noise, training, then)
