"""PyTorch: parameters, gradients and activations of a model that is trained by an ordinary loop."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tensometer.store import TensorKey

# Takes a collection, names and tensors; summarises and stores them.
Take = Callable[[str, list[TensorKey], list[torch.Tensor]], None]
# Runs a piece of capture so that no error of it reaches the training loop.
Guard = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class _Parameter:
    name: str
    collection: str
    tensor: torch.Tensor
    facts: Mapping[str, Any]


class TorchCapture:
    """Hooks on a model and its optimizer. `wants(collection)` says whether the step in progress is captured."""

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer | None,
        *,
        prefix: str,
        wants: Callable[[str], bool],
        take: Take,
        guard: Guard,
        activations: bool,
    ) -> None:
        self._model, self._optimizer, self._prefix = model, optimizer, prefix
        self._wants, self._take, self._guard = wants, take, guard
        self._gradients_taken = False
        self._calls: dict[str, int] = {}
        self._handles: list[Any] = []
        if optimizer is not None:
            self._handles.append(optimizer.register_step_pre_hook(self._before_update))
        if activations:
            for name, module in model.named_modules():
                if name:
                    self._handles.append(module.register_forward_hook(self._hook(prefix + name, type(module).__name__)))

    def end_step(self) -> None:
        """What is captured when a step is over: weights, and gradients if no optimizer told of them."""
        if self._optimizer is None and not self._gradients_taken:
            self._take_gradients()
        for collection in ("weights", "biases"):
            if self._wants(collection):
                chosen = [one for one in self._parameters() if one.collection == collection]
                self._take(collection, [_key(one, collection) for one in chosen], [one.tensor for one in chosen])
        self._gradients_taken = False
        self._calls.clear()

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before_update(self, *_: object) -> None:
        # After clipping and unscaling, whatever the loop does. With several closures or optimizer steps: the first.
        if self._wants("gradients") and not self._gradients_taken:
            self._guard(self._take_gradients)

    def _take_gradients(self) -> None:
        if not self._wants("gradients"):
            return
        self._gradients_taken = True
        chosen = [one for one in self._parameters() if one.tensor.grad is not None]
        gradients = [one.tensor.grad for one in chosen if one.tensor.grad is not None]
        self._take("gradients", [_key(one, "gradients") for one in chosen], gradients)

    def _parameters(self) -> Iterator[_Parameter]:
        """Every parameter once; tied ones carry all their names."""
        names: dict[int, list[str]] = {}
        for name, parameter in self._model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(self._prefix + name)
        group_of = {}
        for number, group in enumerate(self._optimizer.param_groups if self._optimizer is not None else ()):
            group_of.update({id(parameter): number for parameter in group["params"]})
        for parameter in self._model.parameters():
            first, *others = names[id(parameter)]
            collection = "biases" if first.rpartition(".")[2].startswith("bias") else "weights"
            facts: dict[str, Any] = {"requires_grad": parameter.requires_grad}
            if self._optimizer is not None:
                facts["parameter_group"] = group_of.get(id(parameter))
            if others:
                facts["tied_names"] = others
            yield _Parameter(first, collection, parameter, facts)

    def _hook(self, name: str, kind: str) -> Callable[..., None]:
        def hook(_: object, __: object, output: object) -> None:
            if self._wants("activations"):
                self._guard(lambda: self._take_outputs(name, kind, output))

        return hook

    def _take_outputs(self, name: str, kind: str, output: object) -> None:
        # A module that is called several times in a step is recorded at each call, under a name of its own.
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        base = name if call == 0 else f"{name}#{call}"
        for part, tensor in _tensors(output):
            key = TensorKey(base + part, "activations", _dtype(tensor), tuple(tensor.shape), {"module_type": kind})
            self._take("activations", [key], [tensor])


def _key(parameter: _Parameter, collection: str) -> TensorKey:
    tensor = parameter.tensor
    return TensorKey(parameter.name, collection, _dtype(tensor), tuple(tensor.shape), parameter.facts)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _tensors(output: object, part: str = "") -> Iterable[tuple[str, torch.Tensor]]:
    """Tensors inside tuples, lists, mappings and dataclasses, with where they are."""
    if isinstance(output, torch.Tensor):
        yield part, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _tensors(value, f"{part}.{key}")
    elif isinstance(output, list | tuple):
        for index, value in enumerate(output):
            yield from _tensors(value, f"{part}.{index}")
    elif hasattr(output, "__dataclass_fields__"):
        for name in output.__dataclass_fields__:
            yield from _tensors(getattr(output, name), f"{part}.{name}")
