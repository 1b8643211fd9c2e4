"""Tensors on CUDA devices: held until they are submitted together, and summarised where they lie."""

import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from tensometer._core import SummaryTable, try_summarize

# DLPack's numbers of a device's memory.
_DLPACK_CUDA = (2, 13)
_is_cuda = attrgetter("is_cuda")
# Between looks, where somebody waits, but not for ever.
_PAUSE_SECONDS = 0.0005


def on_device(x: object) -> bool:
    """Whether a tensor of PyTorch lies on a CUDA device."""
    return getattr(x, "is_cuda", False) is True


def some_on_device(tensors: Sequence[object]) -> bool:
    """Whether any of some tensors does."""
    try:
        return any(map(_is_cuda, tensors))  # no Python code for those of PyTorch
    except AttributeError:
        return any(map(on_device, tensors))


def any_on_device(x: Any) -> bool:
    """The same of an array of any library that says what it holds."""
    cuda = getattr(x, "is_cuda", None)
    if isinstance(cuda, bool):
        return cuda
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        return False
    if hasattr(x, "__cuda_array_interface__"):
        return True
    try:
        return hasattr(x, "__dlpack_device__") and int(x.__dlpack_device__()[0]) in _DLPACK_CUDA
    except Exception:  # whatever a library raises: who reads the array will tell
        return False


class Options(NamedTuple):
    """What summarize_many is told, which tensors of one submit have in common."""

    histogram: bool | str = False
    resolution: int = 6
    fingerprint: bool = False


class Promise(Protocol):
    """What a device was asked for."""

    def ready(self) -> bool:
        """Whether result() would return at once. Never waits."""

    def result(self) -> Any:
        """What has come of it; waits for that."""


class Awaited:
    """What a device computes: None as long as it does, and for good if that comes to nothing."""

    def __init__(self, pending: Promise | None) -> None:
        self.found: Any = None
        self._pending = pending
        self._lost = False

    def settled(self, failed: Callable[[Exception], None]) -> bool:
        """Whether it is known what has come of it. Never waits."""
        if self._pending is not None:
            try:
                if self._pending.ready():
                    self._fetch(failed)
            except Exception as error:
                self.lose()
                failed(error)
        return self._lost or self.found is not None

    def wait(self, failed: Callable[[Exception], None], until: float | None) -> bool:
        """Wait for the device; False if it is not done at a time of the monotonic clock."""
        while until is not None and not self.settled(failed):
            if time.monotonic() >= until:
                return False
            time.sleep(_PAUSE_SECONDS)
        if self._pending is not None:
            try:
                self._fetch(failed)
            except Exception as error:
                self.lose()
                failed(error)
        return True

    def lose(self) -> None:
        """Nothing comes of it any more."""
        self._pending, self._lost = None, self.found is None

    def _fetch(self, failed: Callable[[Exception], None]) -> None:
        del failed
        assert self._pending is not None
        self.found, self._pending = self._pending.result(), None


class Batch(Awaited):
    """Tensors of one submit. A tensor that was changed before the submit, or cannot be read, has no row."""

    def __init__(self, options: Options) -> None:
        super().__init__(None)
        self.options = options
        self._tensors: list[Any] = []
        self._versions: list[int | None] = []
        self._names: list[str] = []
        self._known: dict[int, list[int]] = {}
        self._units: dict[int, tuple[Any, int, int]] = {}  # a tensor, the dimension of its units, and the first one
        self._rows: list[int] = []  # of the tensors that have one, in their order

    def __len__(self) -> int:
        return len(self._versions)

    def add(self, tensor: Any, name: str = "") -> int:
        """Hold a tensor; its number. name: what is told if it is changed; "" for one that nobody would miss."""
        version, number = _version(tensor), len(self._versions)
        self._tensors.append(copied(tensor) if _may_change_unseen(tensor, version) else tensor)
        self._versions.append(version)
        self._names.append(name)
        if version is not None:
            self._known.setdefault(id(tensor), []).append(number)
        return number

    def add_units(self, tensor: Any, axis: int, name: str) -> range:
        """Hold the units of a tensor; their numbers."""
        if _may_change_unseen(tensor, _version(tensor)):
            tensor = copied(tensor)
        first, units = len(self), tensor.detach().unbind(axis)
        self._units[id(tensor)] = (tensor, axis, first)
        self._tensors += units
        self._versions += [_version(one) for one in units]
        self._names += [name] * len(units)
        return range(first, len(self))

    def known(self, tensor: Any) -> int | None:
        """The number of a tensor that is held as it is now."""
        same = (at for at in self._known.get(id(tensor), ()) if self._versions[at] == _version(tensor))
        return next(same, None)

    def copy(self, tensor: Any) -> None:
        """Hold a copy instead of a tensor that is about to be changed."""
        same = [at for at in self._known.pop(id(tensor), ()) if self._versions[at] == _version(tensor)]
        copies = [copied(tensor)] if same else []
        for at in same:
            self._put(at, copies)
        source, axis, first = self._units.pop(id(tensor), (None, 0, 0))
        if source is not None and tensor.shape[axis] and self._versions[first] == _version(tensor):
            self._put(first, copied(tensor).unbind(axis))

    def _put(self, first: int, tensors: Sequence[Any]) -> None:
        self._tensors[first : first + len(tensors)] = tensors
        self._versions[first : first + len(tensors)] = map(_version, tensors)

    @property
    def recorded(self) -> int:
        """How many of its rows somebody would miss."""
        return sum(map(bool, self._names))

    def submit(self, threads: int | None, failed: Callable[[Exception], None]) -> tuple[list[str], bool]:
        """Launch what is held. Returns the names of tensors that were changed, and whether there was a free slot."""
        held, self._tensors = self._tensors, []
        self._known.clear()
        self._units.clear()
        same = [_version(tensor) == version for tensor, version in zip(held, self._versions, strict=True)]
        changed = dict.fromkeys(self._names[at] for at, unchanged in enumerate(same) if not unchanged)
        self._rows = [at for at, unchanged in enumerate(same) if unchanged]
        self._lost = True  # until it is under way
        free = self._launch(held, threads, failed) if self._rows else True
        return [name for name in changed if name], free

    def _launch(self, held: Sequence[Any], threads: int | None, failed: Callable[[Exception], None]) -> bool:
        options = self.options._asdict()
        for at in [at for at in self._rows if has_duplicates(held[at])]:
            self._rows.remove(at)
            name = self._names[at] or "a tensor"
            failed(NotCapturedError(f"{name}: is sparse, and to add up what it has twice would wait for the device"))
        names = [self._names[at] or "a tensor" for at in self._rows]
        try:
            pending = try_summarize([held[at] for at in self._rows], names, **options, threads=threads)
        except Exception as error:
            failed(error)
            return True
        if pending is None:
            return False
        self._pending, self._lost = pending, False
        refused = {self._rows[at]: why for at, why in pending.refused}
        self._rows = [at for at in self._rows if at not in refused]
        for at, why in refused.items():
            if self._names[at] or not _is_freed(held[at]):
                failed(why)
        return True

    def _fetch(self, failed: Callable[[Exception], None]) -> None:
        pending: Any = self._pending
        super()._fetch(failed)
        if names := [name for name in (self._names[self._rows[row]] for row in pending.bins_lost) if name]:
            told = ", ".join(names)
            failed(NotCapturedError(f"{told}: the histogram found no room; there is some from the next step on"))

    def lose(self) -> None:
        """Nothing comes of it any more."""
        super().lose()
        self._tensors = []
        self._units.clear()

    @property
    def table(self) -> SummaryTable | None:
        """The rows, when they are there."""
        found: SummaryTable | None = self.found
        return found

    def places(self, numbers: Sequence[int]) -> list[int | None]:
        """The rows of tensors in the table; None for one that has none."""
        if self.table is None:
            return [None] * len(numbers)
        if len(self._rows) == len(self):
            return list(numbers)
        found = {number: row for row, number in enumerate(self._rows)}
        return [found.get(number) for number in numbers]


class Batches:
    """What is held of the step in progress, and how much found no slot.

    failed: called with errors, and where a tensor was changed, or was dropped.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._open: dict[Options, Batch] = {}
        self._usual = Options()
        self._changed: set[str] = set()
        self.dropped = 0

    def batch(self, options: Options) -> Batch:
        """What is held with these options."""
        batch = self._open.get(options)
        if batch is None:
            batch = self._open[options] = Batch(options)
            self._usual = self._usual if options.fingerprint else options
        return batch

    def any(self) -> Batch:
        """What is held with whatever options: those that others will have too, so that it is one submit."""
        return next(iter(self._open.values()), None) or self.batch(self._usual)

    def add(self, batch: Batch, tensor: Any, name: str) -> int:
        """Hold a tensor that is recorded: a copy of one that was changed in place in an earlier step."""
        return batch.add(copied(tensor) if name in self._changed else tensor, name)

    def add_units(self, batch: Batch, tensor: Any, axis: int, name: str) -> Sequence[int]:
        """The same of all its units."""
        return batch.add_units(copied(tensor) if name in self._changed else tensor, axis, name)

    def copy(self, tensor: Any) -> None:
        """Hold a copy of a tensor that is about to be changed, if it is held."""
        for batch in self._open.values():
            batch.copy(tensor)

    def submit(self, threads: int | None, *, full: bool) -> None:
        """Launch what is held. full: too much is under way already, so nothing is."""
        batches, self._open = list(self._open.values()), {}
        try:
            while batches and not full:
                self._submit(batches.pop(0), threads)
            for batch in batches:
                self.drop(batch.recorded)
        finally:
            for batch in batches:
                batch.lose()

    def _submit(self, batch: Batch, threads: int | None) -> None:
        changed, free = batch.submit(threads, self._failed)
        self._changed.update(changed)
        if not free:
            self.drop(batch.recorded)
        if changed:
            names = ", ".join(changed)
            self._failed(NotCapturedError(f"{names}: changed in place; from the next step on a copy is kept"))

    def drop(self, rows: int) -> None:
        """Count rows that found no slot, and tell."""
        self.dropped += rows
        self._failed(NotCapturedError("summaries of CUDA tensors were dropped: the device is too far behind"))


class NotCapturedError(RuntimeError):
    """Rows that a step lacks."""


def copied(tensor: Any) -> Any:
    """A copy on the device, in the order of its stream."""
    return tensor.detach().clone()


def has_duplicates(tensor: Any) -> bool:
    """Whether it lies on a CUDA device and may have several values for an element, as gradients of embeddings do."""
    return on_device(tensor) and getattr(tensor, "is_sparse", False) is True and not tensor.is_coalesced()


def _is_freed(tensor: Any) -> bool:
    """Whether its memory was given back, as that of parameters that are put together for a forward pass alone."""
    try:
        return bool(tensor.numel() and not tensor.untyped_storage().nbytes())
    except (AttributeError, RuntimeError):
        return False


def _may_change_unseen(tensor: Any, version: int | None) -> bool:
    """Whether it is PyTorch's, and PyTorch does not count its changes in place: in inference mode."""
    return version is None and on_device(tensor)


def _version(tensor: Any) -> int | None:
    """How often PyTorch has changed it in place; None where nobody counts, as of tensors of inference mode."""
    try:
        return int(tensor._version)
    except (AttributeError, RuntimeError):
        return None
