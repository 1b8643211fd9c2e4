"""Features that decide nearly everything."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.importance import check_kind, importance_row
from tensometer.rules.state import State
from tensometer.rules.step import Step


class FeatureImportanceOverweight(Rule):
    """One feature, or a few, decide nearly everything: often a column that gives the answer away.

    Condition: `sum of the k largest importances / sum of all > share`, of at least `features` features, after `warmup`
    captured rounds, for `patience` in a row.

    Defaults: importance "gain", k 1, share 0.9. A column that is the label with noise has 0.95 to 1.0 of the gain; the
    strongest feature of scikit-learn's breast cancer, digits, diabetes, wine and of made-up tables 0.05 to 0.72 from
    the third round on, at depths of 1 to 6 (trees of depth 1 have 1.0 in the first). Amazon SageMaker Debugger's k = 3
    and 0.8 fire on those: three features have up to 0.96. warmup 2, patience 3 for the first rounds. features 5: of
    fewer, one is expected to lead.

    Needs: rows that tensometer.capture.xgboost or Monitor.record_booster records, in `custom`. Costs: a few numbers a
    round.

    Healthy look-alikes: a series that is predicted from its own last value, and problems that one feature does decide:
    if it is known when the model is used, leave the rule out.

    Example: `FeatureImportanceOverweight(k=3, share=0.98)`
    """

    fractions = ("share",)
    needs = ("custom",)
    expected = False
    causes = (
        "a column that is made from the label, or known only after the fact",
        "an identifier that orders the data",
    )
    remedies = ("ask whether the feature is known when the model is used", "train without it, and compare")

    warmup: int = 2
    patience: int = 3
    share: float = 0.9
    k: int = 1
    features: int = 5
    importance: str = "gain"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self, self.importance)
        if not 1 <= self.k <= 3:
            raise ValueError(f"{self.name}.k: {self.k} is not from 1 to 3, of which runs keep the importances")

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the importances of the rounds so far."""
        parts = ("", "/largest", "/column")
        rows, largest, column = (importance_row(self, step, self.importance, of) for of in parts)
        if not len(rows) == len(largest) == len(column) == 1 or not rows["l1"][0] > 0:
            return
        # Of three numbers: the largest, all but the smallest, or all.
        of_k = (largest["max"], largest["l1"] - largest["min"], largest["l1"])[self.k - 1]
        share = of_k / rows["l1"]
        holds = (share > self.share) & (rows["count"] >= max(self.features, self.k + 1))
        who = "one feature has" if self.k == 1 else "{k} features have"
        sentence = who + " {value:.1%} of the importance ({of}); the first is column {column:.0f}"
        yield Condition(
            rows,
            holds,
            sentence,
            share,
            self.share,
            {"k": self.k, "of": self.importance, "column": column["mean"]},
        )
