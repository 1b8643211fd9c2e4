"""What is told of rules that judge nothing: once, by their names, in one finding."""

from collections.abc import Mapping, Sequence

from tensometer.rules.finding import Finding, Severity

# Of so many steps none has had what a rule needs: then it is told. A run that ends before tells it at its end.
NEEDS_PATIENCE = 10

NOT_CAPTURED = "not_captured"

# What comes from a model that is attached; predictions and labels may come from a booster as well.
_OF_MODELS = frozenset(
    ("weights", "biases", "gradients", "updates", "activations", "inputs", "buffers", "optimizer_state")
)
_SCALARS = frozenset(("losses", "metrics", "loop", "custom"))


def is_of_no_model(needs: Sequence[str], collections: set[str]) -> bool:
    """Whether a rule is about models, and the run is of something else: a booster, or arrays of one's own.

    needs: the groups that the rule needs. collections: those that the run has.
    """
    of_others = "custom" in collections and not collections & _OF_MODELS
    return of_others and any(group.partition("/")[0] not in _SCALARS for group in needs)


def not_captured(lacking: Sequence[str]) -> str:
    """Why a rule judges nothing: the run has nothing of some groups."""
    return f"the run has no {' and no '.join(lacking)}"


def never_together(needs: Sequence[str]) -> str:
    """Why a rule judges nothing: no step has had all that it needs."""
    return f"no step of training has {' and '.join(needs)} together"


def apart(gap: int) -> str:
    """Why a rule judges nothing: it compares each step with the one before, and that was not captured."""
    return f"each step is compared with the one before, and captured are steps {gap} apart, not every=1"


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
        remedies=("capture what is named, attach the loss module, or leave these rules out",),
    )
