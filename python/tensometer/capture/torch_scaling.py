"""Gradient scalers of automatic mixed precision: the scale, and which updates they leave out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from tensometer._core import Summary
from tensometer.capture.batches import copied, on_device
from tensometer.capture.sink import Sink

# Of scalers that have no such states: always the same.
_NONE: dict[int, dict[str, Any]] = {}


class Scaled(NamedTuple):
    """What is known of a step: the scale, whether a step was kept from an optimizer, and which left one out itself."""

    scale: float | None = None
    skipped: bool = False
    left_out: Sequence[int] = ()


class Scaling:
    """A scaler, if there is one. Where it lies on a CUDA device, it is read without waiting for that."""

    def __init__(self, scaler: "torch.amp.GradScaler | None", optimizers: Sequence[Optimizer], sink: Sink) -> None:
        if scaler is not None and not callable(getattr(scaler, "get_scale", None)):
            raise TypeError(f"scaler: {type(scaler).__name__} has no get_scale(), as a GradScaler of PyTorch has")
        self._scaler, self._optimizers, self._sink = scaler, optimizers, sink
        self._scale: float | torch.Tensor | None = None
        self._states: object = None
        self._overflows: dict[int, torch.Tensor] = {}  # of optimizers that a device tells to leave out their step

    def begin_step(self) -> None:
        """A new step of the monitor."""
        self._overflows.clear()
        # Where update() is behind this, it is that of the step before.
        self._states = None if self._has_stepped() else self._known()
        self.read()

    def read(self) -> None:
        """The scale is now that of the gradients."""
        wanted = self._sink.wants("loop") or self._sink.wants("gradients")
        if not wanted or self._scaler is None:
            self._scale = None
            return
        scale = getattr(self._scaler, "_scale", None)
        # The scaler changes it in place.
        if on_device(scale):
            self._scale = copied(scale)
        else:
            self._scale = float(self._scaler.get_scale())

    def keeps_from_step(self, number: int) -> bool:
        """Whether an optimizer that is called leaves out this step by itself, as far as that is known already."""
        found: Any = getattr(self._optimizers[number], "found_inf", False)
        if on_device(found):
            self._overflows[number] = found
            return False
        return bool(found)

    def skipped(self) -> bool:
        """Whether an optimizer that made no step was kept from it: found out, or told by a smaller scale."""
        scale = self._known_scale()
        if self._scaler is None or scale is None:
            return False
        if isinstance(scale, torch.Tensor):
            # Its step() was called, of which its update() leaves nothing but new states.
            return self._has_stepped() or (self._states is not None and self._states is not self._known())
        return self.found_inf() or float(self._scaler.get_scale()) < scale

    def found_inf(self) -> bool:
        """What a scaler knows between its step() and its update(), where some loops have monitor.step()."""
        return not isinstance(self._known_scale(), torch.Tensor) and any(map(float, self._counts()))

    def reader(self) -> Callable[[], Scaled]:
        """What tells of this step when all that was looked at is there."""
        found: list[Scaled] = []
        numbers, overflows = list(self._overflows), list(self._overflows.values())
        scale, now = self._known_scale(), getattr(self._scaler, "_scale", None)
        if isinstance(scale, torch.Tensor) and isinstance(now, torch.Tensor):
            # update() is behind the copy.
            looked = [*overflows, scale, now, *self._counts()]

            def told(rows: Sequence[Summary]) -> None:
                counts, (before, after), own = rows[: len(numbers)], rows[len(numbers) :][:2], rows[len(numbers) + 2 :]
                left_out = [number for number, one in zip(numbers, counts, strict=True) if _is_set(one)]
                skipped = bool(left_out) or any(map(_is_set, own)) or after.max < before.max
                found.append(Scaled(float(before.max), skipped, left_out))

            self._sink.look(looked, told)
            return lambda: found[0] if found else Scaled()
        known = Scaled(None if isinstance(scale, torch.Tensor) else scale, self.skipped())
        if not overflows:
            return lambda: known

        def told_of_steps(rows: Sequence[Summary]) -> None:
            left_out = [number for number, one in zip(numbers, rows, strict=True) if _is_set(one)]
            found.append(known._replace(left_out=left_out))

        self._sink.look(overflows, told_of_steps)
        return lambda: found[0] if found else known

    def _known_scale(self) -> "float | torch.Tensor | None":
        """That of the gradients. A scaler lays its own on a device when it scales its first loss; until then it is a
        number, which is laid beside it."""
        now: Any = getattr(self._scaler, "_scale", None)
        if isinstance(self._scale, float) and on_device(now):
            self._scale = torch.full_like(now, self._scale)
        return self._scale

    def _has_stepped(self) -> bool:
        stages = [self._known().get(id(one), {}).get("stage") for one in self._optimizers]
        return any(getattr(one, "name", "") == "STEPPED" for one in stages)

    def _known(self) -> dict[int, dict[str, Any]]:
        states: dict[int, dict[str, Any]] = getattr(self._scaler, "_per_optimizer_states", _NONE)
        return states

    def _counts(self) -> list[Any]:
        found = [self._known().get(id(one), {}).get("found_inf_per_device", {}) for one in self._optimizers]
        return [value for of_devices in found for value in of_devices.values()]


def _is_set(count: Summary) -> bool:
    return bool(count.nonfinite) or count.max > 0
