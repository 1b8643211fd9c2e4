"""What is told of rules that judge nothing: once, by their names, in one finding."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tensometer.rules.finding import Finding, Severity
from tensometer.rules.step import Step

# Of so many steps none has had what a rule needs: then it is told. A run that ends before tells it at its end.
NEEDS_PATIENCE = 10

NOT_CAPTURED = "not_captured"

# What comes from a model that is attached; predictions and labels may come from a booster as well.
_OF_MODELS = frozenset(
    ("weights", "biases", "gradients", "updates", "activations", "inputs", "buffers", "optimizer_state")
)
_SCALARS = frozenset(("losses", "metrics", "loop", "custom"))
# What capture.xgboost_booster records of every booster.
_OF_BOOSTERS = "feature_importance/gain"


@dataclass
class Succession:
    """Whether the steps that a rule is asked about follow each other.

    last: the last step; -1 before the first. distance: how far it lay behind the one before. apart: so many in a row
    did not follow the one before; since: the last one that did.
    """

    last: int = -1
    distance: int = 1
    apart: int = 0
    since: int = -1

    def follow(self, step: Step, *, asked: bool) -> None:
        """Take in a step. Where no optimizer has stepped nothing is passed over, whether the rule is asked or not."""
        idle = self.last >= 0 and (step.progress.skipped or not step.progress.updated)
        if not (asked or idle):
            return
        self.distance = step.number - self.last if self.last >= 0 else 1
        if self.distance <= 1:
            self.apart = 0
        elif self.apart == 0:
            self.apart, self.since = 1, self.last
        else:
            self.apart += 1
        self.last = step.number


def is_of_a_booster(needs: Sequence[str], collections: Collection[str], names: Collection[str]) -> bool:
    """Whether a rule is about models, and the run is of a booster.

    needs: the groups that the rule needs. collections, names: those that the run has.
    """
    boosts = _OF_BOOSTERS in names and _OF_MODELS.isdisjoint(collections)
    return boosts and any(group.partition("/")[0] not in _SCALARS for group in needs)


def not_captured(lacking: Sequence[str]) -> str:
    """Why a rule judges nothing: the run has nothing of some groups."""
    return f"the run has no {' and no '.join(lacking)}"


def never_together(needs: Sequence[str]) -> str:
    """Why a rule judges nothing: no step has had all that it needs."""
    return f"no step of training has {' and '.join(needs)} together"


def none_selected(selection: object) -> str:
    """Why a rule judges nothing: of what it looks at, its settings let nothing in."""
    return f"{selection} lets in none of the tensors that it looks at"


def apart(succession: Succession) -> str:
    """Why a rule judges nothing: it compares each step with the one before, and that was not captured."""
    since, distance = succession.since, succession.distance
    return f"each step is compared with the one before, and from step {since} on they are captured {distance} apart"


def told(reasons: Mapping[str, str], step: int, rank: int) -> Finding:
    """The finding. reasons: why, by the names of rules, of which there is one or more."""
    rules: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        rules.setdefault(reason, []).append(name)
    parts = [f"{', '.join(names)} ({reason})" for reason, names in rules.items()]
    return Finding(
        rule=next(iter(reasons)) if len(reasons) == 1 else "NotJudged",
        severity=Severity.INFO,
        step=step,
        rank=rank,
        tensor="",
        others=(),
        collection="",
        phase="",
        kind=NOT_CAPTURED,
        value=float(len(reasons)),
        threshold=0.0,
        window=(0, step),
        sentence=f"not judged: {'; '.join(parts)}",
        causes=("a collection is switched off or captured at other steps, or what it comes from is not attached",),
        remedies=("capture what is named, attach the model and its loss module, or leave these rules out",),
    )
