"""Updates that change nothing in a lifetime."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.modules import solved
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained_matrix, joined

# Fewer steps than this at a decayed rate are the end of a schedule.
_LOW = 10


class UpdatesTooSmall(Rule):
    """There are gradients and a learning rate, and the optimizer changes the weights by next to nothing.

    Condition: the largest `|update| / |weight|` of all trained weight matrices is below `least`, and was so since the
    beginning, for `patience` steps; for `idle_patience` steps where the learning rate is 0. Or (`decayed`) the rate is
    below `decayed` of its peak, at 10 captured steps in a row that are a quarter of all or more, while the loss is not
    down to 2 % of its first value.

    Defaults: least 1e-6: at that pace a weight is a different one after a million steps. Healthy runs have 1e-3 to
    1e-2, fine-tuning by small rates 1e-4; a rate that is ten times too small is not told by this. Amazon SageMaker
    Debugger's WeightUpdateRatio has 1e-8. decayed 1e-5: schedules end at 0.1 to 1e-4 of their peak, or come near 0 in
    their last steps only.

    Needs: `updates`, `weights`, `gradients`. Costs: one division a matrix.

    Healthy look-alikes: warm-up (not judged while the rate rises); decay to zero and solved problems (their updates
    were larger before); steps that a gradient scaler skips, and accumulation (no update, not judged).

    Example: `UpdatesTooSmall(least=1e-7)`
    """

    fractions = ("decayed",)
    needs = ("updates", "weights", "gradients")
    wants = ("loop",)
    causes = (
        "a learning rate that is far too small, or 0",
        "gradients clipped or scaled to nothing",
        "an epsilon too large",
    )
    remedies = ("a learning rate by which weights change by about a thousandth a step", "look at the schedule")

    patience: int = 3
    idle_patience: int = 5
    least: float = 1e-6
    decayed: float = 1e-5

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the model as a whole."""
        progress = step.progress
        updates = self.rows(step, "updates", where=is_trained_matrix)
        weights = step.group("weights").where(is_trained_matrix)
        if progress.skipped or not progress.updated or not len(updates):
            return
        yield self._decayed(step, state)
        norms = joined(updates, weights, weights["l2"])
        moved = updates["l2"][norms > 0] / norms[norms > 0]
        most = max(state.get("most", 0.0), float(max(moved.tolist(), default=1.0)))
        state["most"] = most
        idle = progress.rate == 0
        judged = idle or progress.full_rate
        yield self.about(
            judged and most < self.least and bool(np.any(step.group("gradients")["l2"] > 0)),
            "a step changes no weight by more than {value:.1e} of its size; the learning rate is {rate:.1e}",
            value=most,
            threshold=self.least,
            step=step,
            collection="updates",
            patience=self.idle_patience if idle else self.patience,
            rate=progress.rate,
        )

    def _decayed(self, step: Step, state: State) -> Condition:
        progress = step.progress
        low = progress.rate < self.decayed * progress.peak_rate
        count = state["low"] = state.get("low", 0) + 1 if low else 0
        long = count >= max(_LOW, progress.observed / 4)
        sentence = "for {count} steps the learning rate has been below {threshold:.1e}, of {peak:.1e} at its peak"
        limit = self.decayed * progress.peak_rate
        about = {"value": progress.rate, "threshold": limit, "count": count, "peak": progress.peak_rate}
        holds = long and not solved(progress)
        return self.about(holds, sentence, step=step, kind="decayed", patience=1, collection="loop", **about)
