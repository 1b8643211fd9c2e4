"""PyTorch: a model and its optimizers, trained by an ordinary loop."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tensometer._core import share_openmp
from tensometer.capture.nonfinite import Origin
from tensometer.capture.sink import Sink, Taken
from tensometer.capture.torch_clearing import GradientClearing
from tensometer.capture.torch_clipping import UnclippedNorm
from tensometer.capture.torch_closures import before_update
from tensometer.capture.torch_distributed import is_replicated
from tensometer.capture.torch_gradients import GradientCapture
from tensometer.capture.torch_modules import ModuleCapture
from tensometer.capture.torch_parameters import Parameter, Parameters, plain
from tensometer.capture.torch_scaling import Scaling
from tensometer.capture.torch_tensors import not_finite, part_of, unwrapped
from tensometer.capture.torch_updates import UpdateCapture
from tensometer.store import TensorKey

# What belongs to an optimizer's step. If none comes in the step of the monitor that is to capture them, because
# gradients are still being accumulated, they are captured in the next in which one comes.
_OF_AN_UPDATE = ("gradients", "updates", "loop")

# Asked with gradients that are about to be used whether they must not be.
Veto = Callable[[Sequence[Taken]], bool]


class TorchCapture:
    """Hooks on a model, its optimizers, and its loss.

    Gradients are those that an optimizer is about to use, after unscaling and clipping: those of its parameters at its
    first step within a step of the monitor. Those of other parameters are taken when the step ends. Updates are what
    all its steps within one of the monitor changed.

    veto: may forbid an optimizer's first step within one of the monitor; what it raises keeps the weights as they are.
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
        veto: Veto | None = None,
    ) -> None:
        _check_module("model", model)
        if loss is not None:
            _check_module("loss", loss)
        optimizers = _optimizers(optimizer)
        self._scaling = Scaling(scaler, optimizers, sink)
        if torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
            # What hooks do then, such as to copy, would become part of the graph.
            sink.keep_out(_is_graph_captured)
        share_openmp(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        self._model, _ = unwrapped(model)
        self._optimizers, self._prefix = optimizers, prefix
        self._sink, self._origin = sink, origin
        self._modules = ModuleCapture(model, loss, prefix=prefix, sink=sink, origin=origin, every_pass=every_pass)
        self._parameters = Parameters(self._model, optimizers, prefix=prefix, replicated=is_replicated(model))
        self._gradients = GradientCapture(sink, origin)
        self._updates = [UpdateCapture(sink) for _ in optimizers]
        self._clearing = [GradientClearing(optimizer, sink) for optimizer in optimizers]
        self._unclipped = UnclippedNorm(self._model, sink) if clipping else None
        self._steps = [0] * len(optimizers)
        self._used: set[str] = set()
        self._owed: list[set[str]] = [set() for _ in optimizers]
        self._veto, self._left_out = veto, set[int]()
        self._handles: list[Any] = []
        for number, optimizer in enumerate(optimizers):
            self._handles.append(before_update(optimizer, partial(self._before_update, number)))

    def begin_step(self) -> None:
        """Get ready for what the new step captures."""
        self._steps = [0] * len(self._optimizers)
        self._used.clear()
        self._left_out.clear()
        self._parameters.begin_step()
        self._gradients.begin_step()
        self._modules.begin_step()
        self._scaling.begin_step()
        if self._unclipped is not None:
            self._unclipped.begin_step(watch=self._sink.wants("loop") or any("loop" in owed for owed in self._owed))

    def end_step(self) -> None:
        """What is captured when a step is over."""
        self._gradients.take(self._parameters.of(None))
        for number, steps in enumerate(self._steps):
            if steps == 0:
                self._without_update(number)
            elif self._updated(number):
                self._sink.guard(self._updates[number].after)
        self._gradients.end_step(self._parameters.all())
        self._modules.end_step(trained=any(self._steps) or self._gradients.gathered.is_some)
        if self._sink.wants("loop"):
            self._take_loop()
        self._take_state()

    def detach(self) -> None:
        """Remove every hook."""
        self._modules.detach()
        if self._unclipped is not None:
            self._unclipped.detach()
        for clearing in self._clearing:
            clearing.detach()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before_update(self, number: int) -> None:
        # This is no step: it is for replays.
        if _is_graph_captured():
            return
        # A gradient scaler lets optimizers that know it leave out a step by themselves.
        if self._scaling.keeps_from_step(number):
            return
        self._steps[number] += 1
        if self._steps[number] > 1:
            return
        if self._unclipped is not None:
            self._unclipped.before_update()
        if self._owed[number] or any(map(self._sink.wants, _OF_AN_UPDATE)):
            found: list[list[Taken]] = []
            if self._veto is not None:
                self._sink.guard(self._await_device)  # so that there is a slot for these gradients
            self._sink.guard(lambda: found.append(self._take_before(number)))
            if self._veto is not None and found:
                self._sink.guard(self._await_device)
                if found[0]:
                    self._ask(self._veto, number, found[0])

    def _await_device(self) -> None:
        # The one place in a step where a CUDA device is waited for.
        self._sink.wait()

    def _ask(self, veto: Veto, number: int, taken: Sequence[Taken]) -> None:
        self._left_out.add(number)  # also if the training is stopped here
        if not veto(taken):
            self._left_out.remove(number)
            return
        # Optimizers pass by what has no gradient: weight, state and count of steps stay as they are.
        for group in self._optimizers[number].param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _updated(self, number: int) -> int:
        """How many of an optimizer's steps were not left out."""
        return self._steps[number] - (number in self._left_out)

    def _take_before(self, number: int) -> list[Taken]:
        if self._owed[number]:
            self._sink.capture_late(self._owed[number])
            self._owed[number] = set()
        self._scaling.read()
        # Only optimizers that unscale by themselves are handed scaled gradients, and tell so by this attribute.
        scale = getattr(self._optimizers[number], "grad_scale", None)
        parameters = self._unused(number)
        taken = self._gradients.take(parameters, scale)
        self._sink.submit()  # some optimizers change gradients in place
        if self._sink.wants("updates"):
            self._updates[number].before(parameters)
        return taken

    def _unused(self, number: int) -> Sequence[Parameter]:
        """An optimizer's parameters that none has used in this step before: of several that share some, the first."""
        parameters = self._parameters.of(number)
        if self._used:
            parameters = [one for one in parameters if one.name not in self._used]
        if len(self._optimizers) > 1:
            self._used.update(one.name for one in parameters)
        return parameters

    def _without_update(self, number: int) -> None:
        if not self._scaling.skipped():
            self._owed[number].update(filter(self._sink.is_due, _OF_AN_UPDATE))
            return
        if self._scaling.found_inf():
            self._scaling.read()
        parameters = self._unused(number)
        # Unless the loop has zeroed them already, the gradients show why.
        if any(one.tensor.grad is not None for one in parameters):
            self._gradients.take(parameters)

    def _take_state(self) -> None:
        """What the model and its optimizers are now: parameters, states and buffers."""
        parts = [one.part(one.collection) for one in self._parameters.all() if self._sink.wants(one.collection)]
        for collection, more in (("optimizer_state", self._states), ("buffers", self._buffers)):
            if self._sink.wants(collection):
                self._sink.guard(lambda more=more: parts.extend(more()))  # type: ignore[misc]
        taken = self._sink.take([key for key, _ in parts], [tensor for _, tensor in parts])
        self._sink.after(lambda: self._judge_state(taken))

    def _judge_state(self, taken: Sequence[Taken]) -> None:
        broken = [key.name for key in not_finite(taken) if key.collection in ("weights", "biases")]
        if broken:
            self._origin.report("weight", {"parameters": broken})

    def _take_loop(self) -> None:
        values: dict[str, Any] = {}
        for number, optimizer in enumerate(self._optimizers):
            several = f"{number}/" if len(self._optimizers) > 1 else ""
            values[f"{self._prefix}{several}optimizer_steps"] = self._updated(number)
            for index, group in enumerate(optimizer.param_groups):
                for setting, name in (("lr", "learning_rate"), ("weight_decay", "weight_decay")):
                    if setting in group:
                        values[f"{self._prefix}{several}{name}/{index}"] = group[setting]
                uncleared = self._clearing[number].uncleared(index)
                values[f"{self._prefix}{several}uncleared_updates/{index}"] = uncleared
        self._sink.numbers(values, self._loop_taker())

    def _loop_taker(self) -> Callable[[dict[str, float]], None]:
        """What keeps the numbers of a loop, with those that are known when all else is."""
        gathered, phase = self._gradients.gathered, self._sink.phase_of(training=True)
        accumulating = self._optimizers and not any(self._steps) and not self._scaling.skipped()
        unclipped = self._unclipped.reader() if self._unclipped is not None and not accumulating else lambda: None
        scaling = self._scaling.reader()

        def keep(values: dict[str, float]) -> None:
            (scale, skipped, left_out), norm_before = scaling(), unclipped()
            for number in left_out:
                several = f"{number}/" if len(self._optimizers) > 1 else ""
                values[f"{self._prefix}{several}optimizer_steps"] -= 1
            if gathered.norm is not None:
                values[f"{self._prefix}gradient_norm"] = gathered.norm
            if norm_before is not None:
                values[f"{self._prefix}gradient_norm_before_clipping"] = norm_before / (scale or 1.0)
            if scale is not None:
                values[f"{self._prefix}amp_scale"] = scale
                values[f"{self._prefix}amp_skipped"] = float(skipped)
            if values:
                self._sink.take_scalars("loop", values, phase)

        return keep

    def _states(self) -> Iterator[tuple[TensorKey, torch.Tensor]]:
        for one in self._parameters.all():
            states = (self._optimizers[number].state.get(one.tensor) for number in one.optimizers)
            # Of several that have it, the first that has used it.
            for name, value in next(filter(None, states), {}).items():
                if isinstance(value, torch.Tensor):
                    yield part_of(f"{one.name}.{name}", "optimizer_state", value, one.facts)

    def _buffers(self) -> Iterator[tuple[TensorKey, torch.Tensor]]:
        for name, buffer in self._model.named_buffers():
            yield part_of(self._prefix + plain(name), "buffers", buffer)


def _is_graph_captured() -> bool:
    # Where there is no device, or nobody has used it yet, the question itself is an error.
    initialized = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(initialized) and torch.cuda.is_current_stream_capturing()


def _check_module(argument: str, value: object) -> None:
    if not isinstance(value, nn.Module):
        raise TypeError(f"{argument}: {type(value).__name__} is not a torch.nn.Module")


def _optimizers(given: object) -> Sequence[Optimizer]:
    several = given if isinstance(given, list | tuple) else [] if given is None else [given]
    found = [_innermost(one) for one in several]
    if not all(isinstance(one, Optimizer) for one in found):
        raise TypeError(f"optimizer: {type(given).__name__} is neither an optimizer of PyTorch nor a list of them")
    return found


def _innermost(optimizer: object) -> Any:
    """The optimizer inside wrappers such as accelerate's, which hand over to it: its hooks run."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer
