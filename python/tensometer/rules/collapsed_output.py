"""Predictions that say the same of everybody."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.group import Array, Group, Key
from tensometer.rules.modules import beside
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.window import pushed

_TEN = 10
_OF_NUMBERS = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")


class CollapsedOutput(Rule):
    """Predictions hardly differ from one sample to the next while targets do, or cannot.

    Condition: `spread`: how far the predictions of one unit lie apart is below `share` of the targets' deviation
    (regression) or of half a nat (classes: logits), for `patience` steps with an optimizer at its full rate in which it
    has not grown: by a fifth over its smallest value, or else by a tenth on average from one ten of steps to the next.
    `constant`: they are alike up to rounding, for three such steps. `broadcast`: predictions and targets have shapes
    that are stretched to a larger one, so that each prediction is compared with every target; then the mean of the
    targets is the best one for all. `probabilities`: cross entropy, which takes logits, gets numbers from 0 to 1 that
    add up to 1: they differ by 1 at most; binary cross entropy, which takes logits, gets nothing below 0 or above 1,
    and numbers of 0.9 and more, for `within` steps; or the negative log likelihood, which takes logarithms of
    probabilities, gets numbers above 0. `bounded`: the largest magnitude of predictions is between 0.98 and 1 for
    `within` steps, as that of a sigmoid or tanh, and that of targets above 1.5.

    Defaults: share 0.002: healthy networks begin at 0.002 to 0.5 nats (deep sigmoids least), and grow. patience 20;
    within 10: logits that stay within 0 and 1 for so long, and come near 1, are none.

    Needs: `predictions`, `labels`: a loss module that is attached. Costs: a summary of every unit of the predictions.

    Healthy look-alikes: the first steps of any training, an output that begins at zero, and warm-up: a spread that
    grows is none; targets that do not differ themselves; losses that stretch a single target on purpose (a
    discriminator's): the larger shape must be larger than both.

    Example: `CollapsedOutput(patience=50)`
    """

    needs = ("predictions", "labels")
    wants = ("predictions/unit_spread", "loop")
    causes = (
        "shapes (N, 1) and (N,)",
        "softmax or a sigmoid before a loss that takes logits, or before targets beyond 1",
        "dead units or vanished signals before the output",
    )
    remedies = (
        "give predictions and targets one shape",
        "give the loss what it takes: logits, or logarithms",
        "see the findings of other rules",
    )

    patience: int = 20
    within: int = 10
    share: float = 0.002

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge pairs of predictions and targets in their order."""
        rows, labels = self.rows(step, "predictions"), step.group("labels")
        if len(rows) != len(labels):
            return
        spread = beside(step, rows, "predictions/unit_spread")
        spread = np.where(np.isnan(spread), rows["std"], spread)
        several = np.array([key.shape[:1] > (1,) for key in rows.keys])
        trains = step.progress.updated and step.progress.rate != 0
        differ = (labels["std"] > 0) & several & trains
        constant = differ & (spread <= 1e-6 * rows["rms"])
        sentence = "{tensor} is the same for all samples, and targets are not"
        yield Condition(rows, constant, sentence, spread, 0.0, kind="constant", patience=3)

        whole = np.array(["int" in key.dtype for key in labels.keys])
        limit = self.share * np.where(whole, 0.5, labels["std"])
        holds = differ & ~constant & step.progress.full_rate & ~_grows(step, rows, spread, state)
        sentence = "{tensor} differs by {value:.2g} from one sample to the next, and does not come to more"
        yield Condition(rows, holds & (spread < limit), sentence, spread, limit, kind="spread")

        pairs = list(zip(rows.keys, labels.keys, strict=True))
        stretched = np.array([_stretched(one, other) for one, other in pairs])
        sentence = "each prediction is compared with every target: {shapes}"
        more = {"shapes": [f"shapes {one.shape} and {other.shape}" for one, other in pairs]}
        yield Condition(rows, stretched, sentence, 0, 0, more, "broadcast", Severity.ERROR, 1)

        classes = np.array([key.shape[1] if _of_cross_entropy(key) else 0 for key in rows.keys])
        holds = (classes > 1) & (rows["min"] >= 0) & (np.abs(classes * rows["mean"] - 1) < 1e-5) & several & whole
        sentence = "{tensor} holds probabilities, and cross entropy takes logits"
        yield Condition(rows, holds, sentence, rows["max"], 1.0, kind="probabilities", patience=2)
        yield from self._of_wrong_range(rows, labels, differ)

    def _of_wrong_range(self, rows: Group, labels: Group, differ: Array) -> Iterator[Condition]:
        """Predictions of another range than the loss, or the targets, are made for."""
        loss = rows.facts("module_type", "")
        holds = differ & (loss == "BCEWithLogitsLoss") & (rows["min"] >= 0) & (rows["max"] <= 1) & (rows["max"] >= 0.9)
        sentence = "{tensor} lies between 0 and 1 at every step, as probabilities do, and the loss takes logits"
        yield Condition(rows, holds, sentence, rows["max"], 1.0, kind="logits", patience=self.within)
        holds = (loss == "NLLLoss") & (rows["max"] > 1e-3)
        sentence = "{tensor} has numbers up to {value:.3g}, and the loss takes logarithms of probabilities, below 0"
        yield Condition(rows, holds, sentence, rows["max"], 0.0, kind="logarithms", patience=2)
        largest, targets = rows["linf"], labels["linf"]
        holds = differ & np.isin(loss, _OF_NUMBERS) & (largest <= 1) & (largest >= 0.98) & (targets > 1.5)
        sentence = "{tensor} does not go beyond 1, as behind a sigmoid or tanh, and targets go to {target:.3g}"
        more = {"target": targets}
        yield Condition(rows, holds, sentence, largest, targets, more, kind="bounded", patience=self.within)


def _grows(step: Step, rows: Group, spread: Array, state: State) -> Array:
    least = state.of_tensors("least", len(step.catalogue), np.inf)
    least[rows.ids] = np.fmin(least[rows.ids], spread)
    last = pushed(step, state, "spreads", 2 * _TEN, rows, spread)
    before, after = last[:, :_TEN].sum(1), last[:, _TEN:].sum(1)
    # NaN, where there are not so many yet, is growth.
    grows: Array = (spread > 1.2 * least[rows.ids]) & ~(after <= 1.1 * before)
    return grows


def _stretched(one: Key, other: Key) -> bool:
    if "float" not in other.dtype or sorted((len(one.shape), len(other.shape))) != [1, 2]:
        return False
    # Vectors against columns. What has more dimensions belongs to losses of another kind.
    vector, column = sorted((one.shape, other.shape), key=len)
    return vector[0] > 1 and column == (*vector, 1)


def _of_cross_entropy(key: Key) -> bool:
    return key.facts.get("module_type") == "CrossEntropyLoss" and len(key.shape) > 1
