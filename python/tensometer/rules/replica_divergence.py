"""Replicas of a model that are not the same any more."""

from collections.abc import Iterator, Sequence

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.group import Array, Group, Key
from tensometer.rules.ranks import differing, in_all
from tensometer.rules.state import State
from tensometer.rules.step import Step

# Fewer tensors than this may be alike by chance.
_FEW = 5


class ReplicaDivergence(Rule):
    """Processes that train one model together have different weights.

    Condition: a field of a parameter's summary (count, zeros, extremes, mean, sum of magnitudes, variance) is not the
    same number in two ranks at the same step. Of parameters whose placement is known to be `replicate`, as under
    DistributedDataParallel, at once; of those of unknown placement, after they agreed at an earlier step and were not
    constant then, or if at the first step all are so alike as only tensors are that began as one: of at least five, in
    three quarters the sums differ by `alike` of the chance deviation of a sum, or less.

    Defaults: alike 0.25: of five tensors drawn independently that has a probability of 0.002. Otherwise no tolerance,
    and patience 1: all ranks add the same averaged gradients to the same weights, with the same rounding. What differs
    in the last bit does not come together again.

    Needs: `weights` of two ranks or more, and `tensometer watch` or tensometer.replay, which see all ranks; a process
    that trains sees its own. Costs: ten comparisons a tensor and rank, where the run is read.

    Healthy look-alikes: shards (FSDP, DTensors) are meant to differ, and not compared; tensors split by hand have no
    placement, and never agreed; running statistics of normalisations are each rank's own until the next forward pass,
    and gradients may be reduced to their owners alone: neither is compared. Local SGD, where replicas part between
    averages, is meant so: leave the rule out.

    Example: `ReplicaDivergence(exclude="local_head")`
    """

    needs = ("weights",)
    wants = ("biases",)
    expected = False
    across_ranks = True
    causes = (
        "a step in which a rank did not average gradients: no_sync(), a parameter that is used in some ranks only",
        "weights, seeds or checkpoints that differed from the start, in a model that was not wrapped",
        "one machine that computes wrongly",
    )
    remedies = ("wrap the model in DistributedDataParallel before the optimizer is made", "broadcast the weights anew")

    severity: Severity = Severity.ERROR
    alike: float = 0.25

    def check_ranks(self, steps: Sequence[Step], state: State) -> Iterator[Condition]:
        """Compare each rank with the lowest."""
        kinds = {
            kind: in_all([self.rows(step, kind, where=_not_split) for step in steps]) for kind in ("weights", "biases")
        }
        if "began as one" not in state:
            state["began as one"] = self._began_as_one(list(kinds.values()))
        for kind, (first, *others) in kinds.items():
            apart = np.array([differing(first, other) for other in others])
            differs = apart.any(axis=0)
            agreed = state.of_tensors("agreed", len(steps[0].catalogue), False)
            expected = agreed[first.ids] | _replicated(first.keys) | state["began as one"]
            agreed[first.ids] |= ~differs & (first["var"] > 0)
            ranks = np.array([step.rank for step in steps[1:]])[apart.argmax(axis=0)]
            sentence = "{tensor} is not the same in ranks {first} and {other}; so it is in {value:.0f} of {others}"
            more = {"first": steps[0].rank, "other": ranks, "others": len(others)}
            yield Condition(first, differs & expected, sentence, apart.sum(axis=0), 0.0, more, kind=kind)

    def _began_as_one(self, kinds: Sequence[Sequence[Group]]) -> bool:
        near = varied = 0
        for first, *others in kinds:
            chance = np.sqrt(first["count"] * first["var"])
            for other in others:
                near += int((abs(other["sum"] - first["sum"])[chance > 0] <= self.alike * chance[chance > 0]).sum())
                varied += int((chance > 0).sum())  # constant tensors tell nothing
        return varied >= _FEW and near >= 0.75 * varied


def _placement(key: Key) -> object:
    found = key.facts.get("placement")
    return found.get("kind") if isinstance(found, dict) else None


def _not_split(key: Key) -> bool:
    return _placement(key) in (None, "replicate")


def _replicated(keys: Sequence[Key]) -> Array:
    return np.array([_placement(key) == "replicate" for key in keys], np.bool_)
