"""PyTorch modules: activations, inputs, predictions and labels, and which module was the first to be not finite."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from tensometer._core import Summary, SummaryTable
from tensometer.capture.batches import some_on_device
from tensometer.capture.nonfinite import Origin
from tensometer.capture.sink import Sink, Taken
from tensometer.capture.torch_classes import class_counts, classes_seen
from tensometer.capture.torch_distributed import local_part
from tensometer.capture.torch_examination import Examination, named
from tensometer.capture.torch_hooks import Hook
from tensometer.capture.torch_modes import Modes
from tensometer.capture.torch_padding import padding_token, take_padding_shares
from tensometer.capture.torch_structure import Structure
from tensometer.capture.torch_tensors import (
    described,
    in_backward,
    not_finite,
    part_of,
    tensors_in,
    unwrapped,
)

# A cell that is called for every element of a sequence is recorded for its first calls.
MOST_CALLS = 8
# Their channels are dimension 1, also in what has the shape of their output; units of everything else are the last one.
_CHANNELS_SECOND = ("Conv", "BatchNorm", "InstanceNorm", "GroupNorm", "MaxPool", "AvgPool", "AdaptiveAvgPool")


class ModuleCapture:
    """Hooks on the modules of one model and on its loss, there only during steps that are captured."""

    def __init__(
        self, model: nn.Module, loss: nn.Module | None, *, prefix: str, sink: Sink, origin: Origin, every_pass: bool
    ) -> None:
        self._model, self._loss, self._prefix = model, loss, prefix
        self._sink, self._origin, self._every_pass = sink, origin, every_pass
        self._modes = Modes(model, prefix, sink)
        self._handles: list[Any] = []
        self._hooked: tuple[bool, bool] = (False, False)
        self._structure: Structure | None = None
        self._watches_modules = False
        self._calls: Counter[str] = Counter()
        self._passes: Counter[tuple[str, str]] = Counter()
        self._skipping = self._ran = self._ran_inside = self._replicas = False
        self._channels: set[torch.Size] = set()  # the shapes in a pass of which dimension 1 is channels
        self._last_gradient: tuple[str, Summary] | None = None
        self._awaited: Callable[[object, SummaryTable | None], None] | None = None
        self._told_unseen = False
        self._padding: int | None = None

    def begin_step(self) -> None:
        """Hook what this step captures: a step that is not captured runs without hooks."""
        self._calls.clear()
        self._passes.clear()
        self._skipping = self._ran = self._ran_inside = False
        self._awaited = None
        self._sink.after(self._forget_gradient)
        self._modes.begin_step()
        modules = self._sink.awaits("activations") or self._origin.watching
        ends = any(map(self._sink.awaits, ("inputs", "predictions", "labels")))
        changed = self._structure is not None and not self._structure.is_current()
        if self._hooked != (modules, ends) or changed:
            self.detach()
            self._hook(modules, ends)
            self._hooked = (modules, ends)

    def end_step(self, *, trained: bool) -> None:
        """trained: whether the model was, in this step; then hooks that did not run have missed its passes."""
        self._modes.end_step()
        if trained and self._sink.wants("activations"):
            if not self._ran:
                self._tell_unseen(["model"], "no hook ran in a step that trained: compiled code may call the model")
            elif self._watches_modules and not self._ran_inside:
                self._tell_unseen(["model"], "no hook of its modules ran: a CUDA graph may stand for them")
        if self._replicas:
            self._tell_unseen(["model"], "nn.DataParallel runs copies of them; DistributedDataParallel does not")

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hooked = (False, False)
        self._watches_modules = False
        self._structure = None

    def _hook(self, modules: bool, ends: bool) -> None:
        if (modules or ends) and not _compiled_in_place(self._model):
            self._handles.append(self._model.register_forward_pre_hook(Hook(self._before), with_kwargs=True))
            self._handles.append(self._model.register_forward_hook(Hook(self._after), with_kwargs=True))
        self._padding = padding_token(self._model) if ends else None
        if ends and self._loss is not None and not _compiled_in_place(self._loss):
            self._handles.append(self._loss.register_forward_pre_hook(Hook(self._before_loss), with_kwargs=True))
        if not modules:
            return
        self._structure = Structure(self._model, ())
        for name, module in self._visible():
            self._watches_modules = True
            hook = Hook(partial(self._output, name))
            self._handles.append(module.register_forward_hook(hook, with_kwargs=True))
            if getattr(module, "inplace", False) is True:
                self._handles.append(module.register_forward_pre_hook(Hook(self._about_to_change)))

    def _visible(self) -> Iterator[tuple[str, nn.Module]]:
        """Modules whose hooks run, but those whose output is that of their last module."""
        inner, hidden = unwrapped(self._model)
        compiled = [""] if hidden or _compiled_in_place(inner) else []
        for name, module in inner.named_modules():
            if "" in compiled or any(name.startswith(f"{one}.") for one in compiled):
                continue
            if hasattr(module, "_orig_mod") or _compiled_in_place(module):
                compiled.append(name)
            alone = name or next(inner.children(), None) is None
            if alone and not isinstance(module, nn.Sequential) and not _compiled_in_place(module):
                yield self._prefix + (name or "model"), module
        if compiled:
            self._tell_unseen([name or "model" for name in compiled], "torch.compile runs them without hooks")

    def _tell_unseen(self, names: list[str], why: str) -> None:
        if not self._told_unseen:
            self._told_unseen = True
            modules = [self._prefix + name for name in names]
            self._sink.event("activations_not_seen", {"modules": modules, "why": why})

    def _before(self, model: nn.Module, arguments: Any, keywords: Any) -> None:
        self._ran = True
        phase = self._sink.phase_of(training=model.training)
        self._modes.passed(phase, training=model.training)
        # The recomputation of a checkpoint is no second pass.
        if in_backward():
            return
        self._calls.clear()
        self._channels.clear()
        self._skipping = not self._first_pass(phase, "model")
        self._sink.guard(self._sink.submit)  # what a pass has left that was broken off
        if not self._skipping and self._sink.wants("inputs", phase):
            self._sink.guard(partial(self._take_ends, "inputs", "input", named((arguments, keywords)), phase, {}))

    def _after(self, model: nn.Module, arguments: Any, keywords: Any, output: object) -> None:
        if in_backward():
            return
        if not self._skipping and self._origin.listens:
            inner, _ = unwrapped(model)
            name, given = self._prefix + "model", (arguments, keywords)
            examination = Examination(self._sink, name, inner, given, inner.named_parameters())
            judge = partial(examination.judge, use=self._judge_model)
            phase = self._sink.phase_of(training=model.training)
            if self._loss is not None and self._sink.wants("predictions", phase) and not _on_device(output):
                # They are reduced when the loss module is called with them: then is the time to judge.
                self._awaited = judge
            else:
                self._sink.guard(partial(judge, output, None))
        self._sink.guard(self._sink.submit)
        self._skipping = False

    def _judge_model(self, outputs: Sequence[Summary], about: Callable[[], dict[str, Any]]) -> None:
        """Where modules are not watched, this tells at least that the fault lies in the model, or in what went in."""
        # Infinities may be meant: those of masked scores. NaN is not.
        if not any(one.nan for one in outputs):
            return
        if self._origin.is_news("model"):
            self._origin.suspect("model", about())
        self._origin.confirm()

    def _first_pass(self, phase: str, what: str) -> bool:
        """Of a step whose gradients are accumulated over several passes, the first speaks for all."""
        self._passes[phase, what] += 1
        return self._every_pass or self._passes[phase, what] == 1

    def _before_loss(self, loss: nn.Module, arguments: Any, keywords: Any) -> None:
        phase = self._sink.phase_of(training=self._model.training)
        if in_backward() or not self._first_pass(phase, "loss"):
            return
        awaited, self._awaited = self._awaited, None
        given = [*arguments, *keywords.values()]
        for collection, name, value in zip(("predictions", "labels"), ("prediction", "label"), given, strict=False):
            if self._sink.wants(collection, phase):
                facts = {"module_type": type(loss).__name__}
                self._sink.guard(partial(self._take_ends, collection, name, value, phase, facts, awaited))
        self._sink.guard(self._sink.submit)
        if len(given) > 1 and self._sink.counts_classes(phase):
            self._sink.guard(partial(self._count_classes, given[0], given[1], phase))

    def _count_classes(self, predictions: object, labels: object, phase: str) -> None:
        assert self._loss is not None
        seen = classes_seen(self._loss, *(_local(value) for value in (predictions, labels)))
        if seen is None:
            return

        def there(tensors: Sequence[torch.Tensor]) -> None:
            data = class_counts(seen, tensors)
            if data is not None:
                self._sink.event("classes", {"model": self._prefix.removesuffix("."), "phase": phase, **data})

        self._sink.fetch(seen.tensors, there)

    def _take_ends(
        self,
        collection: str,
        name: str,
        value: object,
        phase: str,
        facts: dict[str, Any],
        awaited: Callable[[object, SummaryTable | None], None] | None = None,
    ) -> None:
        facts["unit_axis"] = 1  # features, channels or classes: dimension 0 is the batch
        parts = [
            part_of(f"{self._prefix}{name}{part}", collection, tensor, facts) for part, tensor in tensors_in(value)
        ]
        taken = self._sink.take([key for key, _ in parts], [tensor for _, tensor in parts], phase)
        if collection == "inputs" and self._padding is not None:
            take_padding_shares([(key.name, one) for key, one in parts], self._padding, self._sink, phase)
        if awaited is not None and collection == "predictions":
            # Those that the collection leaves out are looked at all the same.
            awaited(value, taken[0][1] if len(taken) == 1 else None)
        if collection == "inputs":
            self._sink.after(lambda: self._judge_inputs(taken))

    def _judge_inputs(self, taken: Sequence[Taken]) -> None:
        # Infinities are often meant: those of masks. NaN may be, where a model knows of missing values.
        if any(table.nonfinite and table.column("nan").any() for _, table in taken):
            self._origin.suspect("input", {"inputs": [key.name for key in not_finite(taken)]})

    def _about_to_change(self, module: nn.Module, arguments: Any) -> None:
        if _is_replica(module):
            return
        for _, tensor in tensors_in(arguments):
            self._sink.guard(partial(self._sink.keep_copy, tensor))

    def _output(self, name: str, module: nn.Module, arguments: Any, keywords: Any, output: object) -> None:
        if _is_replica(module):
            self._replicas = True
            return
        self._ran = self._ran_inside = True
        # Watched is every pass, captured the first.
        if not in_backward() and (not self._skipping or self._origin.watching):
            self._sink.guard(partial(self._take_output, name, module, (arguments, keywords), output))

    def _take_output(self, name: str, module: nn.Module, given: Any, output: object) -> None:
        # A module that is called several times in a pass is recorded at each call, under a name of its own.
        call = self._calls[name]
        self._calls[name] += 1
        phase = self._sink.phase_of(training=module.training)
        recorded = call < MOST_CALLS and not self._skipping and self._sink.wants("activations", phase)
        if not recorded and not self._origin.watching:
            return
        base = name if call == 0 else f"{name}#{call}"
        kind = type(module).__name__
        if kind.startswith(_CHANNELS_SECOND):
            self._channels.update(tensor.shape for _, tensor in tensors_in(output))
        taken = [
            part_of(
                base + part,
                "activations",
                tensor,
                {"module_type": kind, "unit_axis": 1 if tensor.shape in self._channels else -1},
            )
            for part, tensor in tensors_in(output)
        ]
        keys, tensors = [key for key, _ in taken], [tensor for _, tensor in taken]
        kept = self._sink.take(keys, tensors, phase) if recorded else []
        table = kept[0][1] if len(kept) == 1 else None
        if self._origin.watching:
            if table is None or len(table) < len(tensors):
                table = None
            for _, tensor in tensors_in(output):
                if tensor.requires_grad:
                    tensor.register_hook(Hook(partial(self._gradient, base)))  # type: ignore[no-untyped-call]
        if table is None:
            looks = self._origin.watching or (self._origin.listens and some_on_device(tensors))
        else:
            looks = table.nonfinite > 0
        if looks:
            parameters = module.named_parameters(recurse=False)
            Examination(self._sink, base, module, given, parameters).judge(output, table, self._judge)

    def _judge(self, outputs: Sequence[Summary], about: Callable[[], dict[str, Any]]) -> None:
        """Of a module whose output is not finite."""
        if self._origin.is_news("forward"):
            self._origin.suspect("forward", about())
        if any(one.nan for one in outputs):
            self._origin.confirm()

    def _gradient(self, name: str, gradient: torch.Tensor) -> None:
        """Autograd has the gradient of a module's output: the first that is not finite comes from what lies behind."""
        self._sink.guard(lambda: self._check_gradient(name, gradient))

    def _check_gradient(self, name: str, gradient: torch.Tensor) -> None:
        if not self._origin.is_news("backward"):
            return
        self._sink.look([local_part(gradient)[0]], lambda rows: self._judge_gradient(name, rows[0]))

    def _forget_gradient(self) -> None:
        self._last_gradient = None

    def _judge_gradient(self, name: str, summary: Summary) -> None:
        if not self._origin.is_news("backward"):
            return
        if not summary.nonfinite:
            self._last_gradient = (name, summary)
            return
        data: dict[str, Any] = {"module": name, "outputs": [described(f"gradient of {name}", summary)], "inputs": []}
        # Finite where it entered the module before, not finite where it left that.
        if self._last_gradient is not None:
            data["module"], entered = self._last_gradient
            data["inputs"] = [described(f"gradient of {data['module']}", entered)]
        self._origin.report("backward", data)


def _on_device(value: object) -> bool:
    return some_on_device([tensor for _, tensor in tensors_in(value)])


def _local(value: object) -> object:
    """What of a tensor lies in this process."""
    return local_part(value)[0] if isinstance(value, torch.Tensor) else value


def _is_replica(module: nn.Module) -> bool:
    """Whether nn.DataParallel made it of a module, for a call in a thread beside others; it has the module's hooks."""
    return getattr(module, "_is_replica", False) is True


def _compiled_in_place(module: nn.Module) -> bool:
    """Whether module.compile() was called: hooks would become part of the graph, and break it."""
    return getattr(module, "_compiled_call_impl", None) is not None
