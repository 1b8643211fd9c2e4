"""A run that is not as another was."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Group
from tensometer.rules.ranks import in_all
from tensometer.rules.state import State
from tensometer.rules.step import Step


class DifferentAcrossRuns(Rule):
    """Losses, weights or gradients are not what they were at the same step of another run.

    Condition: with the root mean square as the unit, `max(|mean - mean'|, |std - std'|) / max(rms, rms') > tolerance`,
    for `patience` steps in a row that both runs have captured; and always where the number of elements or of those that
    are not finite differs. Tensors that only one of the runs has are not compared.

    Defaults: tolerance 0.01. The same program with the same seed on the same machine gives the same bits; other
    machines or versions round otherwise (1e-7 of float32, 4e-3 of bfloat16), which grows with the steps. Amazon
    SageMaker Debugger's SimilarAcrossRuns compares with allclose.

    Needs: `reference`, the path or URL of the other run, which is why the rule is not one of the default set; looks at
    `losses`, `weights`, `gradients`. Costs: reading the other run beside this one, and five comparisons a tensor.

    Healthy look-alikes: another seed, order of data, dropout or number of processes is another run: compare what
    should be alike.

    Example: `DifferentAcrossRuns(reference="runs/before", tolerance=1e-3)`
    """

    wants = ("losses", "weights", "gradients")
    by_default = False
    causes = ("a change of the program, its libraries, the data or their order, or the seed",)
    remedies = ("look at the first step and tensor that differ: what is computed before them is the same",)

    reference: str = ""
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.reference, str) or not self.reference:
            raise ValueError(
                f"{self.name}.reference: {self.reference!r} is not the path or URL of a run to compare with"
            )

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare the step with that of the other run."""
        other = step.of_run(self.reference)
        if other is None:
            return
        for kind in self.wants:
            mine, theirs = in_all([self.rows(step, kind), self.rows(other, kind)])
            apart = _apart(mine, theirs)
            sentence = "{tensor} is off that of the other run by {value:.2g} of its size"
            yield Condition(mine, apart > self.tolerance, sentence, apart, self.tolerance, kind=kind)


def _apart(mine: Group, theirs: Group) -> Array:
    """How far apart rows in one order are."""
    size = np.fmax(mine["rms"], theirs["rms"])
    found = np.fmax(np.abs(mine["mean"] - theirs["mean"]), np.abs(mine["std"] - theirs["std"]))
    relative = np.divide(found, size, out=np.zeros(len(found)), where=size > 0)
    other = (mine["count"] != theirs["count"]) | (mine["nonfinite"] != theirs["nonfinite"])
    return np.where(other, np.inf, relative)
