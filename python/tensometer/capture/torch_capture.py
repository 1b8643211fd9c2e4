"""PyTorch: a model and its optimizers, trained by an ordinary loop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tensometer._core import Summary, SummaryTable, share_openmp
from tensometer.capture.nonfinite import Origin
from tensometer.capture.sink import Sink
from tensometer.capture.torch_clipping import UnclippedNorm
from tensometer.capture.torch_closures import before_update
from tensometer.capture.torch_distributed import REPLICATED, is_replicated
from tensometer.capture.torch_modules import ModuleCapture
from tensometer.capture.torch_structure import Structure
from tensometer.capture.torch_tensors import dtype_of, part_of, unwrapped
from tensometer.capture.torch_updates import UpdateCapture, update_of
from tensometer.store import TensorKey


@dataclass(frozen=True)
class _Parameter:
    name: str
    tensor: nn.Parameter
    facts: Mapping[str, Any]
    keys: dict[str, TensorKey] = field(default_factory=dict)  # of plain tensors, by collection

    @property
    def collection(self) -> str:
        """Weights or biases: a name is all that tells."""
        return "biases" if self.name.rpartition(".")[2].startswith("bias") else "weights"

    def part(
        self, collection: str, tensor: torch.Tensor | None = None, dtype: str = ""
    ) -> tuple[TensorKey, torch.Tensor]:
        """The parameter, or its gradient, or what else it has: as much of it as is in this process.

        dtype: that of what will be recorded, if it is not the tensor's.
        """
        tensor = self.tensor.detach() if tensor is None else tensor
        known = self.keys.get(collection)
        if known is not None and known.shape == tensor.shape and known.dtype == (dtype or dtype_of(tensor)):
            return known, tensor
        key, local = part_of(self.name, collection, tensor, self.facts)
        if dtype:
            key = replace(key, dtype=dtype)
        if local is tensor:
            self.keys[collection] = key
        return key, local


class TorchCapture:
    """Hooks on a model, its optimizers, and its loss.

    Gradients are those that an optimizer is about to use, after unscaling and clipping: those of its parameters at its
    first step within a step of the monitor. Those of other parameters are taken when the step ends.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer] | None,
        *,
        loss: nn.Module | None,
        scaler: "torch.amp.GradScaler | None",
        prefix: str,
        sink: Sink,
        origin: Origin,
        every_pass: bool,
        clipping: bool,
    ) -> None:
        _check_module("model", model)
        if loss is not None:
            _check_module("loss", loss)
        if scaler is not None and not callable(getattr(scaler, "get_scale", None)):
            raise TypeError(f"scaler: {type(scaler).__name__} has no get_scale(), as a GradScaler of PyTorch has")
        optimizers = _optimizers(optimizer)
        share_openmp(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        self._model, _ = unwrapped(model)
        self._replicated = is_replicated(model)
        self._optimizers, self._scaler, self._prefix = optimizers, scaler, prefix
        self._sink, self._origin = sink, origin
        self._modules = ModuleCapture(model, loss, prefix=prefix, sink=sink, origin=origin, every_pass=every_pass)
        self._updates = [UpdateCapture(sink) for _ in optimizers]
        self._unclipped = UnclippedNorm(self._model, sink) if clipping else None
        self._steps = [0] * len(optimizers)
        self._scale: float | None = None
        self._known: list[_Parameter] = []
        self._structure = Structure(self._model, optimizers)
        self._checked = False
        self._norm: Summary | None = None
        self._gradients_missing: list[str] = []
        self._handles: list[Any] = []
        for number, optimizer in enumerate(optimizers):
            self._handles.append(before_update(optimizer, partial(self._before_update, number)))
            self._handles.append(optimizer.register_step_post_hook(partial(self._after_update, number)))

    def begin_step(self) -> None:
        """Get ready for what the new step captures."""
        self._steps = [0] * len(self._optimizers)
        self._checked = False
        self._norm = None
        self._modules.begin_step()
        if self._scaler is not None and self._sink.wants("loop"):
            self._scale = float(self._scaler.get_scale())
        if self._unclipped is not None:
            self._unclipped.begin_step()

    def end_step(self) -> None:
        """What is captured when a step is over."""
        self._take_gradients([one for one in self._parameters() if one.facts.get("optimizer") is None])
        for number, steps in enumerate(self._steps):
            if steps == 0 and self._skipped():
                self._take_gradients(self._of(number))
        if self._sink.wants("loop"):
            self._take_loop()
        for collection in ("weights", "biases"):
            if self._sink.wants(collection):
                self._take_parameters(collection)
        if self._sink.wants("optimizer_state"):
            self._take_state()
        if self._sink.wants("buffers"):
            named = self._model.named_buffers()
            self._take("buffers", [part_of(self._prefix + _plain(name), "buffers", buffer) for name, buffer in named])

    def detach(self) -> None:
        """Remove every hook."""
        self._modules.detach()
        if self._unclipped is not None:
            self._unclipped.detach()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before_update(self, number: int) -> None:
        self._steps[number] += 1
        if self._steps[number] == 1:
            self._sink.guard(partial(self._take_before, number))

    def _take_before(self, number: int) -> None:
        self._take_gradients(self._of(number))
        if self._sink.wants("updates"):
            self._updates[number].before(*self._updated(number))

    def _after_update(self, number: int, *_: object) -> None:
        if self._steps[number] == 1 and self._sink.wants("updates"):
            self._sink.guard(partial(self._take_after, number))

    def _take_after(self, number: int) -> None:
        self._updates[number].after(*self._updated(number))

    def _updated(self, number: int) -> tuple[list[TensorKey], list[torch.Tensor]]:
        given = [(one, *update_of(one.tensor.detach())) for one in self._of(number) if one.tensor.requires_grad]
        parts = [one.part("updates", tensor, dtype) for one, tensor, dtype in given]
        kept = [part for part in parts if self._sink.takes("updates", part[0])]
        return [key for key, _ in kept], [tensor for _, tensor in kept]

    def _take_gradients(self, parameters: list[_Parameter]) -> None:
        if not parameters or not self._sink.wants("gradients"):
            return
        parts = [
            one.part("gradients", self._unscaled(one, one.tensor.grad))
            for one in parameters
            if one.tensor.grad is not None
        ]
        keys = [key for key, _ in parts]
        table = self._take("gradients", parts)
        if table is None:
            return
        self._norm = table.total() if self._norm is None else self._norm.merge(table.total())
        broken = [key.name for key, one in zip(keys, table, strict=False) if one.nonfinite]
        # Backward runs from the last layer to the first: the last in the model's order was reached first.
        if broken and len(table) == len(keys):
            self._origin.report("gradient", {"parameters": broken[::-1]})

    def _unscaled(self, parameter: _Parameter, gradient: torch.Tensor) -> torch.Tensor:
        # Only optimizers that unscale by themselves are handed scaled gradients, and tell so by this attribute.
        number = parameter.facts.get("optimizer")
        scale = None if number is None else getattr(self._optimizers[number], "grad_scale", None)
        return gradient if scale is None else gradient / scale

    def _skipped(self) -> bool:
        return self._scaler is not None and self._scale is not None and self._scaler.get_scale() < self._scale

    def _take_parameters(self, collection: str) -> None:
        parts = [one.part(collection) for one in self._parameters() if one.collection == collection]
        table = self._take(collection, parts)
        if table is not None and len(table) == len(parts):
            broken = [key.name for (key, _), one in zip(parts, table, strict=True) if one.nonfinite]
            if broken:
                self._origin.report("weight", {"parameters": broken})

    def _take_loop(self) -> None:
        values: dict[str, float] = {}
        for number, optimizer in enumerate(self._optimizers):
            several = f"{number}/" if len(self._optimizers) > 1 else ""
            values[f"{self._prefix}{several}optimizer_steps"] = self._steps[number]
            for index, group in enumerate(optimizer.param_groups):
                for setting, name in (("lr", "learning_rate"), ("weight_decay", "weight_decay")):
                    if setting in group:
                        values[f"{self._prefix}{several}{name}/{index}"] = float(group[setting])
        if self._norm is not None:
            values[f"{self._prefix}gradient_norm"] = self._norm.l2
        if self._unclipped is not None and self._unclipped.norm is not None:
            values[f"{self._prefix}gradient_norm_before_clipping"] = self._unclipped.norm / (self._scale or 1.0)
        if self._scaler is not None and self._scale is not None:
            values[f"{self._prefix}amp_scale"] = self._scale
            values[f"{self._prefix}amp_skipped"] = float(self._skipped())
        if values:
            self._sink.take_scalars("loop", values)
        missing = [one.name for one in self._parameters() if one.tensor.requires_grad and one.tensor.grad is None]
        if missing != self._gradients_missing and self._norm is not None:
            self._gradients_missing = missing
            self._sink.event("gradients_missing", {"parameters": missing})

    def _take_state(self) -> None:
        parts = []
        for one in self._parameters():
            number = one.facts.get("optimizer")
            if number is None:
                continue
            for name, value in self._optimizers[number].state.get(one.tensor, {}).items():
                if isinstance(value, torch.Tensor):
                    parts.append(part_of(f"{one.name}.{name}", "optimizer_state", value, one.facts))
        self._take("optimizer_state", parts)

    def _take(self, collection: str, parts: list[tuple[TensorKey, torch.Tensor]]) -> SummaryTable | None:
        return self._sink.take(collection, [key for key, _ in parts], [tensor for _, tensor in parts])

    def _of(self, number: int) -> list[_Parameter]:
        return [one for one in self._parameters() if one.facts.get("optimizer") == number]

    def _parameters(self) -> list[_Parameter]:
        """Every parameter once, tied ones with all their names; as the model is in this step."""
        if not self._checked:
            self._checked = True
            if not self._structure.is_current():
                self._structure = Structure(self._model, self._optimizers)
                self._known = []
            if not self._known:
                self._known = list(self._described())
        return self._known

    def _described(self) -> Iterator[_Parameter]:
        names: dict[nn.Parameter, list[str]] = {}
        owners: dict[nn.Parameter, str] = {}
        for path, module in self._model.named_modules(remove_duplicate=False):
            for name, parameter in module.named_parameters(recurse=False):
                names.setdefault(parameter, []).append(self._prefix + _plain(f"{path}.{name}" if path else name))
                owners.setdefault(parameter, type(module).__name__)
        groups = {
            parameter: (number, index)
            for number, optimizer in enumerate(self._optimizers)
            for index, group in enumerate(optimizer.param_groups)
            for parameter in group["params"]
        }
        for parameter, (first, *others) in names.items():
            facts: dict[str, Any] = {"requires_grad": parameter.requires_grad, "module_type": owners[parameter]}
            if self._optimizers:
                facts["optimizer"], facts["parameter_group"] = groups.get(parameter, (None, None))
            if others:
                facts["tied_names"] = others
            if self._replicated:
                facts["placement"] = REPLICATED
            yield _Parameter(first, parameter, facts)


def _check_module(argument: str, value: object) -> None:
    if not isinstance(value, nn.Module):
        raise TypeError(f"{argument}: {type(value).__name__} is not a torch.nn.Module")


def _optimizers(given: object) -> Sequence[Optimizer]:
    found = [] if given is None else [given] if isinstance(given, Optimizer) else given
    if not isinstance(found, list | tuple) or not all(isinstance(one, Optimizer) for one in found):
        raise TypeError(f"optimizer: {type(given).__name__} is neither an optimizer of PyTorch nor a list of them")
    return found


def _plain(name: str) -> str:
    """The name that a parameter has in the model itself, not in what compiles parts of it."""
    return name.replace("_orig_mod.", "")
