"""Modes of a model that do not fit what it is called for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tensometer.rules.base import Condition, Rule
from tensometer.rules.state import State
from tensometer.rules.step import Step


class EvalModeInTraining(Rule):
    """The model trains in evaluation mode, or is evaluated in training mode.

    Condition: evaluation: in steps in which an optimizer steps, no pass of the model is in training mode, and one with
    gradients is in evaluation mode, `patience` times in a row. training: in `sightings` steps, those without one not
    counted, a pass without gradients, or of a phase that the loop has named, is in training mode. Both only where the
    mode matters: in models with dropout, or normalisations with running statistics.

    Defaults: patience 3; sightings 2: a single pass may have been one that finds out shapes.

    Needs: `loop`, and the event `mode`, which comes with `inputs` or `activations`. Costs: nothing.

    Healthy look-alikes: models of which the mode makes no difference; a head that is trained on a frozen part in
    evaluation mode: the model as a whole is asked; evaluation inside the loop, in its own mode; checkpointing, whose
    first pass has no gradients: the event leaves it out. Dropout that is left on to estimate uncertainty is none, if
    the loop evaluates without it, too; otherwise switch the rule off.

    Example: `EvalModeInTraining(patience=10)`
    """

    needs = ("loop",)
    wants = ("inputs",)
    causes = ("model.train() is missing after an evaluation", "model.eval() is missing before an evaluation")
    remedies = ("model.train() at the beginning of each epoch, model.eval() before each evaluation",)

    patience: int = 3
    sightings: int = 2

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each model's passes, of which events tell when they change."""
        trained, evaluated = set(state.get("trained", [])), set(state.get("evaluated", []))
        for event in step.events:
            if event.kind == "mode":
                model, matters = event.data["model"], event.data["matters"]
                for models, wrong in ((trained, _trains_in_evaluation), (evaluated, _evaluates_in_training)):
                    (models.add if matters and wrong(event.data["passes"]) else models.discard)(model)
                state["models"] = sorted({*state.get("models", []), model})
        state["trained"], state["evaluated"] = sorted(trained), sorted(evaluated)
        for model in state.get("models", []):
            yield self._trained(step, model, model in trained)
            yield self._evaluated(step, state, model, model in evaluated)

    def _trained(self, step: Step, model: str, wrongly: bool) -> Condition:
        sentence = "{tensor} is in evaluation mode while it is trained: no dropout, no batch statistics"
        holds, kind = wrongly and step.progress.updated, f"evaluation of {model}"
        return self.about(holds, sentence, value=0, threshold=1, step=step, tensor=model, kind=kind)

    def _evaluated(self, step: Step, state: State, model: str, wrongly: bool) -> Condition:
        number = step.catalogue.number(model)
        seen = state.of_tensors("sightings", len(step.catalogue), 0)
        seen[number] += wrongly
        count, least = int(seen[number]), self.sightings
        sentence = "{tensor} is in training mode where it is evaluated: dropout or batch statistics are active"
        more: dict[str, Any] = {"tensor": model, "kind": f"training of {model}", "patience": 1}
        return self.about(wrongly and count >= least, sentence, value=count, threshold=least, step=step, **more)


Passes = Sequence[Mapping[str, Any]]


def _trains_in_evaluation(passes: Passes) -> bool:
    return any(one["gradients"] for one in passes) and not any(one["training"] for one in passes)


def _evaluates_in_training(passes: Passes) -> bool:
    # A phase that is named neither by the loop nor by the mode is "train".
    return any(one["training"] and (not one["gradients"] or one["phase"] != "train") for one in passes)
