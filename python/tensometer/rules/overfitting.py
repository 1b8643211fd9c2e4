"""A model that learns its training data by heart."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.held_out import evaluations
from tensometer.rules.state import State
from tensometer.rules.step import Step


class Overfitting(Rule):
    """The loss on held-out data rises from its best while the training loss goes on falling.

    Condition: with v the median of the last three evaluations, and the best such median so far: `v - best >` each of
    `rise best`, `share (first - best)` and 4 times the usual difference between evaluations, while the training loss
    is below nine tenths of what it was at the best, and below v. For `patience` evaluations in a row.

    Defaults: rise 0.2, share 0.15, patience 3. Amazon SageMaker Debugger's Overfit has a gap of 10 % between the losses
    at one step, which every network shows that has learned its training data. The gap is no fault as long as the
    held-out loss falls; and when classes are known well, it rises by some hundredths of what it once fell, because a
    few confident mistakes cost more and more.

    Needs: `losses`, of which one is plainly what is trained, and another by its name of held-out data (val_loss, or
    losses of another phase; or a metric such as val_perplexity). Silent where there is none. Costs: a few medians at an
    evaluation.

    Healthy look-alikes: noisy evaluations, a constant gap, double descent's small bumps, a training that is disturbed
    as a whole, and the slow rise of a solved problem, all as above.

    Example: `Overfitting(rise=0.5, patience=5)`
    """

    needs = ("losses",)
    wants = ("metrics",)
    causes = ("too few training data for a model of this size", "mislabelled training data")
    remedies = ("stop at the best evaluation", "more or augmented data, weight decay, dropout, or a smaller model")

    patience: int = 3
    rise: float = 0.2
    share: float = 0.15

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each loss of held-out data at its evaluations."""
        for one in evaluations(step, state):
            limit = one.best + max(self.rise * abs(one.best), self.share * one.drop, 4 * one.noise)
            learns = one.training < 0.9 * one.training_then and one.training < one.level
            sentence = "{tensor} rose from {best:.4g} to {value:.4g}, while the training loss fell to {training:.4g}"
            more = {"kind": one.name, "best": one.best, "training": one.training}
            about = {"tensor": one.name, "collection": "losses", **more}
            yield self.about(
                one.level > limit and learns, sentence, value=one.level, threshold=limit, step=step, **about
            )
