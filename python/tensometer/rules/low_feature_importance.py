"""Features that a booster's trees do not use."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.importance import check_kind, importance_row
from tensometer.rules.state import State
from tensometer.rules.step import Step


class LowFeatureImportance(Rule):
    """Features that no tree uses: all of them (the booster learns nothing), or many.

    Condition: `features of importance 0 / features = 1`, a warning; or `>= share`, worth knowing (info). After `rounds`
    rounds of training, captured or not, for `patience` captured ones in a row.

    Defaults: rounds 10, patience 3: the first trees split on few features, and of 30 to 64 features 10 to 20 % are
    unused after ten rounds on scikit-learn's breast cancer and digits, 71 % if one of the others gives the answer away.
    share 0.5 for that reason: more than half of the table could be left out. importance "gain"; "weight" and "cover"
    have the same zeros.

    Needs: rows that tensometer.capture.xgboost or Monitor.record_booster records, in `custom`. Costs: one number a
    round.

    Healthy look-alikes: rounds after the problem is solved are single leaves, but importances are over all rounds;
    sparse tables (words, one-hot columns) have many unused features, which is why that is but info; a linear booster
    has no gain.

    Example: `LowFeatureImportance(share=0.9)`
    """

    fractions = ("share",)
    needs = ("custom",)
    expected = False
    causes = (
        "gamma, min_child_weight or the regularisation allow no split",
        "features that are constant, or say nothing of the labels",
    )
    remedies = ("look at the importances by name with Booster.get_score()", "lower gamma and min_child_weight")

    patience: int = 3
    rounds: int = 10
    share: float = 0.5
    importance: str = "gain"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self, self.importance)

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the features by the rounds so far."""
        if step.number < self.rounds:
            return
        rows = importance_row(self, step, self.importance)
        unused = rows["zero_fraction"]
        learns_nothing = unused == 1
        yield Condition(rows, learns_nothing, "no tree uses any feature", unused, 1.0, kind="none")
        sentence = "{value:.0%} of the features are in no tree"
        some = (unused >= self.share) & ~learns_nothing
        yield Condition(rows, some, sentence, unused, self.share, kind="many", severity=Severity.INFO)
