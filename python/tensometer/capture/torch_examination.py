"""What is told of a module, or a model, whose output is not finite."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

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
            use(outputs, lambda: self._about(outputs))

    def _judge_later(self, tensors: Sequence[torch.Tensor], use: Judge) -> None:
        # What waits for the rows knows of no tensor: a step's activations would stay alive until then.
        call, given = self._call()
        wanted = len(tensors)

        def told(rows: Sequence[Summary | None]) -> None:
            outputs = [one for one in rows[:wanted] if one is not None]
            if any(one.nonfinite for one in outputs):
                use(outputs, lambda: call.about(outputs, rows[wanted:]))

        # What shards a model may have given back the memory of parameters before the device was told to read them.
        self._sink.look_at_some([*tensors, *given], told)

    def _about(self, outputs: Sequence[Summary]) -> dict[str, Any]:
        call, given = self._call()
        return call.about(outputs, list(summarize_many(given, threads=self._sink.threads)))

    def _call(self) -> tuple["Call", list[torch.Tensor]]:
        """What is to be told of the call, and the tensors that went in and parameters, in its order."""
        entered, parameters = list(tensors_in(named(self._given))), list(self._parameters)
        call = Call(self._name, self._kind, [part for part, _ in entered], [name for name, _ in parameters])
        return call, [local_part(one)[0] for _, one in [*entered, *parameters]]


class Call(NamedTuple):
    """What is known of a call of a module but for its tensors."""

    module: str
    module_type: str
    entered: list[str]
    parameters: list[str]

    def about(self, outputs: Sequence[Summary], rows: Sequence[Summary | None]) -> dict[str, Any]:
        """What to tell. rows: of what went in, then of the parameters; None of what could not be read."""
        inputs, weights = rows[: len(self.entered)], rows[len(self.entered) :]
        return {
            "module": self.module,
            "module_type": self.module_type,
            # Otherwise the fault lies before it: in the data, or in a module that nobody looked at.
            "first": not any(one is not None and one.nonfinite for one in inputs),
            "outputs": [described(self.module, one) for one in outputs],
            "inputs": [
                described(f"input{part}", one)
                for part, one in zip(self.entered, inputs, strict=True)
                if one is not None
            ],
            "parameters_not_finite": [
                name for name, one in zip(self.parameters, weights, strict=True) if one is not None and one.nonfinite
            ],
        }


def named(given: Any) -> Mapping[Any, Any]:
    """What a module is called with, by position or keyword."""
    arguments, keywords = given
    return {**dict(enumerate(arguments)), **keywords}
