"""The parameters of a model as it is in this step: their names, their optimizers, and what of them is here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from tensometer.capture.torch_distributed import REPLICATED
from tensometer.capture.torch_structure import Structure
from tensometer.capture.torch_tensors import dtype_of, part_of
from tensometer.store import TensorKey


@dataclass(frozen=True)
class Parameter:
    """One parameter, with the facts that its rows bear."""

    name: str
    tensor: nn.Parameter
    facts: Mapping[str, Any]
    optimizers: Sequence[int] = ()  # numbers of those that have it; facts name the first
    keys: dict[str, TensorKey] = field(default_factory=dict)  # of plain tensors, by collection

    @property
    def collection(self) -> str:
        """Weights or biases: a name is all that tells (`bias`, `bias_ih_l0`, `in_proj_bias`)."""
        last = self.name.rpartition(".")[2]
        return "biases" if last.startswith("bias") or last.endswith("bias") else "weights"

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


class Parameters:
    """Every parameter of a model once, tied ones with all their names."""

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer], *, prefix: str, replicated: bool) -> None:
        self._model, self._optimizers, self._prefix, self._replicated = model, optimizers, prefix, replicated
        self._structure = Structure(model, optimizers)
        self._known: list[Parameter] = []
        self._of: dict[int | None, list[Parameter]] = {}
        self._checked = False

    def begin_step(self) -> None:
        """The model may have changed."""
        self._checked = False

    def all(self) -> list[Parameter]:
        """In the model's order."""
        if not self._checked:
            self._checked = True
            if not self._structure.is_current():
                self._structure = Structure(self._model, self._optimizers)
                self._known = []
            if not self._known:
                self._of.clear()
                self._known = list(self._described())
        return self._known

    def of(self, optimizer: int | None) -> list[Parameter]:
        """Those that an optimizer has, by its number, others may have them too; None: those that none has."""
        known = self.all()
        found = self._of.get(optimizer)
        if found is None:
            found = self._of[optimizer] = [
                one for one in known if (optimizer in one.optimizers if optimizer is not None else not one.optimizers)
            ]
        return found

    def _described(self) -> Iterator[Parameter]:
        names: dict[nn.Parameter, list[str]] = {}
        owners: dict[nn.Parameter, str] = {}
        for path, module in self._model.named_modules(remove_duplicate=False):
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
                if is_lazy(parameter):
                    continue  # it has no elements yet
                names.setdefault(parameter, []).append(self._prefix + plain(f"{path}.{name}" if path else name))
                owners.setdefault(parameter, type(module).__name__)
        groups: dict[nn.Parameter, list[tuple[int, int]]] = {}
        for number, optimizer in enumerate(self._optimizers):
            for index, group in enumerate(optimizer.param_groups):
                for parameter in group["params"]:
                    groups.setdefault(parameter, []).append((number, index))
        for parameter, (first, *others) in names.items():
            facts: dict[str, Any] = {"requires_grad": parameter.requires_grad, "module_type": owners[parameter]}
            if self._optimizers:
                facts["optimizer"], facts["parameter_group"] = groups.get(parameter, [(None, None)])[0]
            if others:
                facts["tied_names"] = others
            if self._replicated:
                facts["placement"] = REPLICATED
            yield Parameter(first, parameter, facts, [number for number, _ in groups.get(parameter, ())])


def plain(name: str) -> str:
    """The name that a parameter has in the model itself, not in what compiles parts of it."""
    return name.replace("_orig_mod.", "")
