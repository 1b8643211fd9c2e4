"""Gradients that are added to those of the steps before."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.state import State
from tensometer.rules.step import Step

_NAME = "uncleared_updates/"


class GradientsNotCleared(Rule):
    """zero_grad() is missing: each step adds its gradient to all those before it, and uses the sum.

    Condition: `uncleared_updates/GROUP >= updates` in `loop`: so many updates in a row have used a gradient that
    nothing but backward passes had changed since the update before used it, as PyTorch's count of changes in place
    tells.

    Defaults: updates 2: it is no estimate, but what happened, so a second one only excludes a single exception.

    Needs: `loop` of an attached optimizer of PyTorch. Costs: two calls of Python a parameter group and backward pass,
    whatever is captured.

    Healthy look-alikes: accumulation over several backward passes (an update comes only behind the last); gradients
    that the loss of another network leaves behind (cleared before they are used); a whole data set as one batch and
    plateaus that are left (growing norms are not looked at); gradients that are scaled down instead of cleared.

    Example: `GradientsNotCleared(updates=5)`
    """

    needs = ("loop",)
    causes = ("optimizer.zero_grad() is missing, or called on another optimizer",)
    remedies = ("call optimizer.zero_grad() before each backward pass that begins a step",)

    severity: Severity = Severity.ERROR
    updates: int = 2

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each parameter group."""
        for name, value in step.scalars("loop").items():
            if _NAME in name:
                sentence = "gradients were not cleared before {value:.0f} updates in a row: {tensor} in loop"
                yield self.about(
                    value >= self.updates,
                    sentence,
                    value=value,
                    threshold=self.updates,
                    step=step,
                    tensor=name,
                    collection="loop",
                    kind=name,
                )
