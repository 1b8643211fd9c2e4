"""What is told of a module, or a model, whose output is not finite."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tensometer._core import Summary, SummaryTable, summarize_many
from tensometer.capture.batches import some_on_device
from tensometer.capture.sink import Sink
from tensometer.capture.torch_distributed import local_part
from tensometer.capture.torch_tensors import described, tensors_in

# Called with the rows of outputs of which some are not finite, and with what there is to tell.
Judge = Callable[[Sequence[Summary], Callable[[], dict[str, Any]]], None]


class Examination:
    """A call of a module: what went in, and with which parameters.

    On the CPU those are looked at only if the output is not finite; on a CUDA device they are looked at beside it,
    since they may be others when that is known.
    """

    def __init__(
        self,
        sink: Sink,
        name: str,
        module: nn.Module,
        given: Any,
        parameters: Iterable[tuple[str, nn.Parameter]],
    ) -> None:
        self._sink, self._name, self._kind = sink, name, type(module).__name__
        self._given, self._parameters = given, parameters

    def judge(self, output: object, table: SummaryTable | None, use: Judge) -> None:
        """Tell of the output, if it is not finite. table: its rows, if they are there."""
        if table is None:
            tensors = [local_part(one)[0] for _, one in tensors_in(output)]
            if some_on_device(tensors):
                self._judge_later(tensors, use)
                return
            table = summarize_many(tensors, threads=self._sink.threads)
        if table.nonfinite:
            outputs = list(table)
            use(outputs, lambda: self._about(outputs, *self._entered(), self._summaries))

    def _judge_later(self, tensors: Sequence[torch.Tensor], use: Judge) -> None:
        entered, given, names, parameters = self._entered()

        def told(rows: Sequence[Summary]) -> None:
            outputs, others = rows[: len(tensors)], rows[len(tensors) :]
            if any(one.nonfinite for one in outputs):
                use(outputs, lambda: self._about(outputs, entered, given, names, parameters, lambda _: others))

        self._sink.look([*tensors, *given, *parameters], told)

    def _entered(self) -> tuple[list[str], list[torch.Tensor], list[str], list[torch.Tensor]]:
        """Names and tensors of what went in, and of the parameters."""
        entered, parameters = list(tensors_in(named(self._given))), list(self._parameters)
        return (
            [part for part, _ in entered],
            [local_part(one)[0] for _, one in entered],
            [name for name, _ in parameters],
            [local_part(one)[0] for _, one in parameters],
        )

    def _summaries(self, tensors: Sequence[torch.Tensor]) -> Sequence[Summary]:
        return list(summarize_many(tensors, threads=self._sink.threads))

    def _about(
        self,
        outputs: Sequence[Summary],
        entered: Sequence[str],
        given: Sequence[torch.Tensor],
        names: Sequence[str],
        parameters: Sequence[torch.Tensor],
        summaries: Callable[[Sequence[torch.Tensor]], Sequence[Summary]],
    ) -> dict[str, Any]:
        rows = summaries([*given, *parameters])
        inputs, weights = rows[: len(entered)], rows[len(entered) :]
        return {
            "module": self._name,
            "module_type": self._kind,
            # Otherwise the fault lies before it: in the data, or in a module that nobody looked at.
            "first": not any(one.nonfinite for one in inputs),
            "outputs": [described(self._name, one) for one in outputs],
            "inputs": [described(f"input{part}", one) for part, one in zip(entered, inputs, strict=True)],
            "parameters_not_finite": [name for name, one in zip(names, weights, strict=True) if one.nonfinite],
        }


def named(given: Any) -> Mapping[Any, Any]:
    """What a module is called with, by position or keyword."""
    arguments, keywords = given
    return {**dict(enumerate(arguments)), **keywords}
