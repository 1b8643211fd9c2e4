"""Gradients that grow until they are no numbers any more."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.losses import training_loss
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import natural_norm

# The first so many norms are what later ones are compared with.
_FIRST = 3


class ExplodingGradient(Rule):
    """The gradient is far larger than weights are, or grows while the loss becomes worse.

    Condition: with `g` the norm of all gradients, `w` the norm that weights of such shapes usually begin with: `g >=
    level * w * max(1, sqrt(first loss))`; or `g >= growth` times the least of its first three values, while the
    training loss is at least `worse` times its first value (where none is plainly that: `g >= growth^2` times), for
    `patience` steps. Before an update there is no loss of that step yet: that of the step before counts.

    Defaults: growth 10, worse 1.5, patience 3. In healthy runs the gradient grows up to fivefold as the loss begins to
    fall, and tenfold only behind plateaus: the loss is then below its first value. A run that diverges passes both in
    two steps. level 1e4: healthy runs had at most 2, raw features as inputs 150, recurrent weights that blow up 4e5. Of
    a squared error the gradient is in proportion to the targets, as the loss's root is: targets in thousands have
    gradients in thousands.

    Needs: `gradients`. Costs: two norms over tensors.

    Healthy look-alikes: heavy tails (one step, which patience outlasts; clipped, they do not grow); losses that rise by
    design (the gradient does not grow tenfold with them; those of adversaries are not asked); another task (the
    gradient is tenfold for two steps); steps that a gradient scaler skips (not judged).

    Example: `ExplodingGradient(growth=100)`
    """

    needs = ("gradients",)
    wants = ("losses", "labels")
    causes = ("a learning rate that is too large", "weights that begin too large", "recurrent weights above 1")
    remedies = ("a smaller learning rate, warm-up", "clip the gradient's norm", "He or Xavier initialisation")

    severity: Severity = Severity.ERROR
    patience: int = 3
    growth: float = 10.0
    worse: float = 1.5
    level: float = 1e4

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the norm of all gradients."""
        rows = self.rows(step, "gradients")
        gradients, natural = rows["l2"], rows.each(natural_norm)
        if step.progress.skipped:
            return
        norm = float(gradients @ gradients) ** 0.5
        beside = norm / float(natural @ natural) ** 0.5
        first: list[float] = state.get("first", [])
        if len(first) < _FIRST:
            first = state["first"] = [*first, norm]
        least = min(first)
        found = training_loss(step)
        name: str | None = state.get("loss") if found is None else found[0]
        state["loss"] = name
        loss = None if name is None else step.progress.losses.get(name)
        if any(kind == "MSELoss" for kind in step.group("labels").facts("module_type", "")):
            state["squared"] = True
        level = self.level * (max(1.0, loss.first) ** 0.5 if loss is not None and state.get("squared") else 1.0)
        worse = loss is None or loss.last >= self.worse * loss.first > 0
        limit = least * (self.growth if loss is not None else self.growth**2)
        yield self.about(
            limit > 0 and norm >= limit and worse,
            "the gradient's norm is {value:.3g}, {times:.3g} times that of the first steps, and the loss is worse",
            value=norm,
            threshold=limit,
            step=step,
            kind="growth",
            collection="gradients",
            times=norm / least if least else 0.0,
        )
        yield self.about(
            beside >= level,
            "the gradient's norm is {value:.3g} times what weights of these shapes have",
            value=beside,
            threshold=level,
            step=step,
            kind="level",
            collection="gradients",
            patience=1,
        )
