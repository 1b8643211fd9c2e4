"""Trees of a booster that are too deep."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Key
from tensometer.rules.state import State
from tensometer.rules.step import Step


class TreeTooDeep(Rule):
    """Trees are deep, and have so many leaves that each speaks for a few samples.

    Condition: of the trees of a round, `largest depth > depth` and `largest number of leaves > leaves`, for `patience`
    captured rounds in a row.

    Defaults: depth 9. XGBoost's own default is 6, LightGBM's and CatBoost's guides stay within 10, and so do the grids
    that people search; Amazon SageMaker Debugger's TreeDepth (more than 4, as the binary logarithm of the largest node
    number) fires on every training with XGBoost's defaults. leaves 64 = 2^6: a full tree of that default depth. A tree
    of max_depth 10 to 16 has 130 to 4000 leaves on noisy tables of 400 to 20,000 rows, where it learns the noise, and
    at most 34 on scikit-learn's digits and breast cancer, where it stops because the leaves are pure, and is harmless.
    patience 3: a single deep tree says nothing of the ensemble.

    Needs: rows that tensometer.capture.xgboost or Monitor.record_booster records, in `custom`. Costs: two numbers a
    round.

    Healthy look-alikes: trees that grow by loss (`grow_policy="lossguide"`, 31 leaves) reach a depth of 16 and have few
    leaves; the same with hundreds of leaves on millions of rows, and random forests of deep trees, are meant so: give
    `leaves` or `depth` what they are meant to have.

    Example: `TreeTooDeep(depth=12, leaves=255)`
    """

    needs = ("custom",)
    expected = False
    causes = ("max_depth is far beyond 6, or 0 (no limit)", "min_child_weight and gamma are too small to stop growth")
    remedies = ("try a max_depth from 3 to 8, or max_leaves", "raise min_child_weight, and compare on a validation set")

    patience: int = 3
    depth: int = 9
    leaves: int = 64

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the trees of the round."""
        rows, leaves = (self.rows(step, "custom", where=where) for where in (_is_depth, _is_leaves))
        if len(rows) == len(leaves) == 1:
            depth = rows["max"]
            holds = (depth > self.depth) & (leaves["max"] > self.leaves)
            sentence = "a tree of this round is {value:.0f} levels deep and has up to {leaves:.0f} leaves"
            yield Condition(rows, holds, sentence, depth, self.depth, {"leaves": leaves["max"]})


def _is_depth(key: Key) -> bool:
    return key.name == "tree_depth"


def _is_leaves(key: Key) -> bool:
    return key.name == "tree_leaves"
