"""Classes of which there are far more samples than of others."""

from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.classes import LabelCounts, class_events, one_label_a_sample
from tensometer.rules.modules import solved
from tensometer.rules.state import State
from tensometer.rules.step import Fact, Step

# Batches of so many labels or more tell whether data are shuffled, and so many of them.
_BATCH, _BATCHES = 16, 8
# To say the same class always is learned at once.
_EASY = 0.05


class ClassImbalance(Rule):
    """Some classes are so rare among the labels that a classifier gains little by learning them; or batches are sorted.

    Condition: with n labels of the most frequent class and m of the rarest, `(n - 3 sqrt(n)) / (m + 3 sqrt(m)) > ratio`
    over all labels seen, once there were `labels` of them. `single`: all labels so far, `single` or more, are of one
    class, and the loss is down to 5 % of its first value, as it soon is where that is all there is to learn. `sorted`:
    in seven of the last eight batches of at least 16 labels nine tenths have a single class, and it is not the same one
    in all.

    Defaults: ratio 10 as in Amazon SageMaker Debugger's ClassImbalance. Three standard deviations of a count are taken
    off on both sides, as few labels of many balanced classes differ by chance; with them 200 labels tell what is told
    there by 500. single 500: that so many labels are alike is no chance, nor a class that is rare.

    Needs: `labels` of a classifier whose loss module is attached (the events `classes`), and `inputs`. Costs: some ten
    microseconds a step and a sum over classes.

    Healthy look-alikes: tokens, letters and pixels differ in frequency by nature: only labels of whole samples are
    judged. A loss that is weighted by class makes up for it. Outputs without any sample (a head with room for more) are
    no rare class. Pairs of which the first is always the right one (contrastive losses), whose loss is not at 5 % so
    soon; the two calls of a discriminator (binary losses are not judged for a single class). Data that change in
    training (curricula, tasks one after another, a file that is sorted): only classes that were seen in the first and
    in the last quarter of the labels are compared.

    Example: `ClassImbalance(ratio=30.0)`
    """

    needs = ("labels", "inputs")
    wants = ("labels/classes",)
    causes = (
        "the data have few samples of a class",
        "a filter or split that lost most of a class",
        "a data loader that does not shuffle",
    )
    remedies = ("weigh the loss by class, or sample the rare classes more often", "judge by accuracy of each class")

    ratio: float = 10.0
    labels: int = 200
    single: int = 500

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Add the labels of this step, and compare the classes that go through the whole of training."""
        events = class_events(step)
        if not events or any(event.data["weighted"] for event in events):
            return
        classes = max(event.data["classes"] for event in events)
        if not one_label_a_sample(step, classes):
            return
        found = LabelCounts(state, classes)
        for event in events:
            found.add(event)
        yield self._sorted(step, events, state)
        seen = found.seen
        kinds = np.flatnonzero(found.counts)
        binary = str(step.group("labels").facts("module_type", "")[0]).startswith("BCE")
        alone = seen >= self.single and len(kinds) == 1 and not binary and solved(step.progress, _EASY)
        sentence = "all {value:.0f} labels so far are of class {only}"
        about = {"only": int(kinds[0]) if len(kinds) else 0, "kind": "single"}
        yield self.about(alone, sentence, value=seen, threshold=self.single, step=step, **about)
        steady = np.flatnonzero((found.first >= 0) & (found.first <= seen / 4) & (found.last >= 0.75 * seen))
        if seen < self.labels or len(steady) < 2:
            return
        counts = found.counts[steady]
        rare, frequent = int(steady[counts.argmin()]), int(steady[counts.argmax()])
        few, many = float(found.counts[rare]), float(found.counts[frequent])
        ratio = (many - 3 * many**0.5) / (few + 3 * few**0.5)
        sentence = "class {frequent} is the label {many:.0f} times, class {rare} {few:.0f} times, of {seen:.0f}"
        facts = {"rare": rare, "frequent": frequent, "few": few, "many": many, "seen": seen}
        yield self.about(ratio > self.ratio, sentence, value=ratio, threshold=self.ratio, step=step, **facts)

    def _sorted(self, step: Step, events: Sequence[Fact], state: State) -> Condition:
        """Remembers of each batch the class that rules it, or -1."""
        rulers: list[int] = state.get("rulers", [])
        for event in events:
            pairs = event.data["labels"]
            label, most = max(pairs, key=itemgetter(1), default=(-1, 0))
            total = sum(count for _, count in pairs)
            if total >= _BATCH:
                rulers = [*rulers, int(label) if most >= 0.9 * total else -1][-_BATCHES:]
        state["rulers"] = rulers
        ruled = [label for label in rulers if label >= 0]
        # In between lies a batch with the end of a class and the beginning of the next.
        holds = len(rulers) == _BATCHES and len(ruled) >= _BATCHES - 1 and len(set(ruled)) > 1
        sentence = "{value} of the last 8 batches have the labels of a single class each: the data are not shuffled"
        return self.about(holds, sentence, value=len(ruled), threshold=_BATCHES - 1, step=step, kind="sorted")
