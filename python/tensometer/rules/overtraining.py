"""Training that goes on long after the best evaluation."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.held_out import evaluations
from tensometer.rules.state import State
from tensometer.rules.step import Step


class Overtraining(Rule):
    """The loss on held-out data has had no new best for a long time, and is clearly worse by now.

    Condition: since the best median of three evaluations there were `evaluations`, and at least as many as before it;
    and the median of the last three lies above the best by each of `rise best`, `share (first - best)` and 4 times the
    usual difference between evaluations.

    Defaults: evaluations 10 as in Amazon SageMaker Debugger's Overtraining, which asks for no more: but to stay at the
    best is what a converged model does. rise 0.1 and share 0.05: half, and a third, of what Overfitting takes, as the
    rise has lasted.

    Needs: as Overfitting, beside which it speaks of time lost: also where the training loss does not fall any more.
    Costs: a few medians at an evaluation.

    Healthy look-alikes: a converged model that stays at its best; noisy evaluations; a best that came early by chance,
    with more evaluations before the end than a few.

    Example: `Overtraining(evaluations=5)`
    """

    needs = ("losses",)
    wants = ("metrics",)
    causes = ("more epochs than the data bear", "a learning rate that should have decayed")
    remedies = ("stop at the best evaluation, and take the weights of then", "early stopping")

    evaluations: int = 10
    rise: float = 0.1
    share: float = 0.05

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each loss of held-out data at its evaluations."""
        for one in evaluations(step, state):
            limit = one.best + max(self.rise * abs(one.best), self.share * one.drop, 4 * one.noise)
            long = one.since >= self.evaluations and 2 * one.since >= one.count
            sentence = "{tensor} was best {since} evaluations ago, {best:.4g}; it is {value:.4g} now"
            about = {"tensor": one.name, "collection": "losses", "since": one.since, "best": one.best}
            holds = long and one.level > limit
            yield self.about(holds, sentence, value=one.level, threshold=limit, step=step, kind=one.name, **about)
