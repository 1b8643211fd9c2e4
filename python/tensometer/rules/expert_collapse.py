"""Mixtures of experts of which one does all."""

import re
from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Group, Key
from tensometer.rules.modules import beside
from tensometer.rules.state import State
from tensometer.rules.step import Step

_ROUTER = re.compile(r"(^|\.)(router|gate|gating|gate_?net\w*|gating_?net\w*|routing)(\.|$)", re.IGNORECASE)
_MOST_EXPERTS = 256


class ExpertCollapse(Rule):
    """The router of a mixture sends everything to one expert.

    Condition, for `patience` captured steps in a row. `shares` (a softmax over E experts): the sum of the squares of
    the experts' average shares, `E (between + mean^2)`, is at least `share`, where `between` is the variance of the
    experts' averages. `logits` (a linear layer): the favourite leads by `nats` and by six times what samples differ by,
    `lead = E sqrt(between / (E - 1))`, as it is if one expert is ahead of equal others.

    Defaults: share 0.8: one expert has nine tenths of everything; even loads come to 1 / E. nats 4: the favourite has
    fifty times the share of another. Healthy routers lead by less than 1. patience 3.

    Needs: `activations/unit_spread`. Seen are modules named router, gate or gating, in models that have something
    named `expert`. Costs: a summary of every unit of an activation.

    Healthy look-alikes: experts without tokens in a step; routers that are sharp for each sample but differ between
    samples: averages are compared; gates of other kinds, in models without experts.

    Example: `ExpertCollapse(share=0.6)`
    """

    fractions = ("share",)
    needs = ("activations/unit_spread",)
    wants = ("activations",)
    expected = False
    causes = ("nothing makes the router try other experts", "a router that begins with large weights or biases")
    remedies = ("a loss that balances the load", "noise on the router's logits", "small weights in the router")

    patience: int = 3
    share: float = 0.8
    nats: float = 4.0

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each router by itself."""
        if state.get("names") != len(step.catalogue):
            state["names"] = len(step.catalogue)
            state["experts"] = any("expert" in name.lower() for name in step.catalogue.names)
        if not state["experts"]:
            return
        rows = self.rows(step, "activations", where=_is_softmax)
        if len(rows):
            experts, between = _between(step, rows)
            load = experts * (between + rows["mean"] ** 2)
            sentence = "{tensor} sends everything to one expert: squares of the average shares add up to {value:.2f}"
            yield Condition(rows, load >= self.share, sentence, load, self.share, kind="shares")
        rows = self.rows(step, "activations", where=_is_logits)
        if len(rows):
            experts, between = _between(step, rows)
            lead = experts * np.sqrt(between / (experts - 1))
            holds = (lead >= self.nats) & (lead > 6 * beside(step, rows, "activations/unit_spread"))
            sentence = "{tensor} prefers one expert for everything, by {value:.1f} nats"
            yield Condition(rows, holds, sentence, lead, self.nats, kind="logits")


def _between(step: Step, rows: Group) -> tuple[Array, Array]:
    """The numbers of experts, and the variance of their averages: what is left of the whole without that within one."""
    experts = np.array([key.shape[-1] for key in rows.keys])
    within = beside(step, rows, "activations/unit_spread") ** 2
    return experts, np.fmax(rows["var"] - within, 0)


def _is_router(key: Key, kinds: tuple[str, ...]) -> bool:
    routes = _ROUTER.search(key.name) is not None and key.facts.get("module_type") in kinds
    return routes and len(key.shape) > 1 and 1 < key.shape[-1] <= _MOST_EXPERTS


def _is_softmax(key: Key) -> bool:
    return _is_router(key, ("Softmax",))


def _is_logits(key: Key) -> bool:
    return _is_router(key, ("Linear",))
