"""Ranks that are given the same data."""

import hashlib
from collections.abc import Iterator, Sequence

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.group import Key
from tensometer.rules.ranks import differing, in_all
from tensometer.rules.state import State
from tensometer.rules.step import Step


class IdenticalBatches(Rule):
    """Processes that should share the data among them are given the same batches.

    Condition: all fields of the summaries of all inputs that are not constant are the same numbers in two ranks, and
    others than in the step before, for `patience` steps in a row; and the ranks' weights are the same.

    Defaults: patience 3. Summaries of different batches of real numbers never agree in mean and variance to the last
    bit; those of a batch of flags or few tokens may, once in a hundred times: three times in a row, once in a million.

    Needs: `inputs` of two ranks or more, and `tensometer watch` or tensometer.replay, which see all ranks; looks at
    `weights`. Costs: a hash of ten numbers an input and rank, where the run is read.

    Healthy look-alikes: inputs that are constant (masks of ones, dummies), or never change (positions, one-hot rows of
    which every batch has as many, the whole of a small data set), tell nothing and are left out; ranks that compute
    parts of one model (tensor parallelism) share their inputs, but not their weights, and shards are not judged.

    Example: `IdenticalBatches(patience=10)`
    """

    needs = ("inputs",)
    wants = ("weights",)
    expected = False
    across_ranks = True
    causes = (
        "a loader without a DistributedSampler, or one that does not know its rank",
        "the same seed in every rank",
    )
    remedies = ("give the loader a DistributedSampler, and call its set_epoch()", "mix the rank into the seed")

    severity: Severity = Severity.ERROR
    patience: int = 3

    def check_ranks(self, steps: Sequence[Step], state: State) -> Iterator[Condition]:
        """Find each rank's twin: the lowest with the same inputs."""
        prints = {step.rank: self._print(step) for step in steps}
        twins: dict[int, int] = {}
        for at, step in enumerate(steps):
            mine = prints[step.rank]
            other = next(one for one in steps if prints[one.rank] == mine)
            if mine and mine != state.get(f"inputs {step.rank}") and at and _replicas(other, step):
                twins[step.rank] = other.rank
        # The same pairs as in the step before.
        lasting = [rank for rank, other in twins.items() if state.get(f"twin {rank}", other) == other != rank]
        for rank, text in prints.items():
            state[f"inputs {rank}"], state[f"twin {rank}"] = text, twins.get(rank, -1)
        first = twins[lasting[0]] if lasting else -1
        sentence = "rank {first} and {value:.0f} more (rank {ranks}) are given the same inputs"
        names = ", ".join(map(str, lasting))
        yield self.about(
            bool(lasting), sentence, value=len(lasting), threshold=0, step=steps[0], first=first, ranks=names
        )

    def _print(self, step: Step) -> str:
        """Of the inputs that tell batches apart; nothing, if there are none."""
        rows = self.rows(step, "inputs")
        varied = rows["var"] > 0
        names = ("count", "zeros", "negatives", "nan", "min", "max", "mean", "l1", "var")
        columns = [rows[name][varied] for name in names]
        return hashlib.blake2b(b"".join(one.tobytes() for one in columns)).hexdigest() if varied.any() else ""


def _replicas(one: Step, other: Step) -> bool:
    """Whether two ranks have the same whole weights, as far as is known."""
    pair = in_all([step.group("weights") for step in (one, other)])
    return not any(map(_is_shard, pair[1].keys)) and not differing(*pair).any()


def _is_shard(key: Key) -> bool:
    placement = key.facts.get("placement")
    return isinstance(placement, dict) and placement.get("kind") not in (None, "replicate")
