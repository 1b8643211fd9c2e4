"""A training loss that rises, or stays where it began."""

from collections.abc import Iterator
from itertools import pairwise

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.losses import median, remember, spread, training_loss, trains_fully
from tensometer.rules.state import State
from tensometer.rules.step import Step

# Medians of so many steps: what training begins with, and what it has come to.
_HEAD = 5
_RECENT = 20
_RISING = 8


class LossNotDecreasing(Rule):
    """The training loss rises far above its start, or has not left it after many steps at the full learning rate.

    Condition: rising: the last 8 losses all lie above `highest + rise |start|`, and the median of the later four is
    not below that of the earlier; or a quarter of that height, and the medians of ten rise from each ten of the last 40
    to the next. flat: after `steps` steps at the full learning rate, the median of the last 20 is
    less than `drop |start|` below the start, with twice the error of that difference added, and not below that of the
    20 before. start and highest: the median and the largest of the first five losses.

    Defaults: rise 2, eight times in a row; Amazon SageMaker Debugger's LossNotDecreasing takes 5 % over 10 steps,
    either way, and fires on 22 of 25 healthy runs, as noise and plateaus do that. drop 0.01 and 100 steps: the slowest
    healthy run of ours, by a rate of a hundredth of the usual, has lost a hundredth by then and still falls.

    Needs: `losses`, one of which is plainly what is trained: named loss or train_loss, or the only one that is not of
    validation. Costs: a few medians of 20 numbers a step.

    Healthy look-alikes: warm-up and decay (only steps at the full rate count); noise (an error of a tenth of the
    start is too large to judge by); plateaus after the loss has fallen, long ones before generalisation too; a solved
    problem, and a run that goes on from a checkpoint: flat is judged of runs seen from their first step. A change of
    the task or a warm-up of one of its terms lifts the loss back to its start, hardly above it, or falls again. Losses
    of adversaries are not judged: with several optimizers there is no one loss.

    Example: `LossNotDecreasing(steps=1000)`
    """

    fractions = ("drop",)
    needs = ("losses",)
    causes = ("the wrong sign of the loss", "too large or too small a learning rate", "labels that do not fit the rows")
    remedies = ("try a tenth or ten times the rate", "overfit a single batch first: a correct loop learns it by heart")

    rise: float = 2.0
    drop: float = 0.01
    steps: int = 100

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare the last losses with the first."""
        found = training_loss(step)
        if found is None:
            return
        name, loss = found
        state["trained"] = state.get("trained", 0) + trains_fully(step, state)
        recent = remember(state, "recent", loss, 2 * _RECENT)
        if len(recent) == _HEAD and "start" not in state:
            state["start"], state["noise"], state["highest"] = median(recent), spread(recent), max(recent)
            state["whole"] = step.number < 10 * _HEAD
        if "start" not in state or len(recent) < _RISING:
            return
        start, last, half = state["start"], recent[-_RISING:], _RISING // 2
        about = {"tensor": name, "collection": "losses", "start": start}
        steady = len(recent) == 2 * _RECENT and state["whole"] and _rises_steadily(recent)
        low, limit = min(last), state["highest"] + self.rise * abs(start) * (0.25 if steady else 1.0)
        rising = low > limit and median(last[half:]) >= median(last[:half])
        sentence = "{tensor} rises: it began at {start:.4g}, and was at least {value:.4g} for the last 8 steps"
        about |= {"severity": Severity.ERROR, "kind": "rising"}
        yield self.about(rising, sentence, value=low, threshold=limit, step=step, **about)
        if state["trained"] < self.steps or len(recent) < 2 * _RECENT or not state["whole"]:
            return
        late, early = recent[_RECENT:], recent[:_RECENT]
        level, limit = median(late), start - self.drop * abs(start)
        error = 2 * (state["noise"] / _HEAD**0.5 + spread(late) / _RECENT**0.5)
        flat = level - error > limit and level >= median(early) and error < self.drop * 10 * abs(start)
        sentence = "{tensor} does not fall: it began at {start:.4g}, and after {trained} steps it is {value:.4g}"
        about |= {"severity": self.severity, "kind": "flat", "trained": state["trained"]}
        yield self.about(flat, sentence, value=level, threshold=limit, step=step, **about)


def _rises_steadily(losses: list[float]) -> bool:
    """Whether the medians of quarters rise from each to the next."""
    quarter = len(losses) // 4
    middles = [median(losses[first : first + quarter]) for first in range(0, len(losses), quarter)]
    return all(before < after for before, after in pairwise(middles))
