"""What a framework's capture tells, and whom."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tensometer._core import SummaryTable, summarize_many
from tensometer.store import TensorKey

# Tensors that were taken, and a row of each.
Taken = tuple[Sequence[TensorKey], SummaryTable]


class Sink(Protocol):
    """Where a capture hands over what it sees of the step in progress; the monitor is one."""

    @property
    def threads(self) -> int | None:
        """How many threads of the engine a capture may use; None for the engine's default."""

    @property
    def step(self) -> int:
        """Number of the step in progress."""

    def is_due(self, collection: str) -> bool:
        """Whether the step in progress stores a collection: not for the flight recorder alone."""

    def capture_late(self, collections: Iterable[str]) -> None:
        """Let the step in progress capture and store collections, though they were due in an earlier one."""

    def wants(self, collection: str, phase: str | None = None) -> bool:
        """Whether the step in progress captures a collection, in a phase (by default the present one)."""

    def awaits(self, collection: str) -> bool:
        """Whether the step in progress captures a collection in any phase."""

    def counts_classes(self, phase: str) -> bool:
        """Whether the step in progress counts the classes of labels, in a phase."""

    def takes(self, key: TensorKey) -> bool:
        """Whether the step in progress captures the collection of a tensor, and that takes it."""

    def phase_of(self, *, training: bool) -> str:
        """The phase that the loop has named; otherwise that of a model in training or in evaluation mode."""

    def take(
        self,
        keys: Sequence[TensorKey],
        tensors: Sequence[Any],
        phase: str | None = None,
        *,
        summarize: Callable[..., SummaryTable] = summarize_many,
    ) -> list[Taken]:
        """Summarise and keep those tensors that their collections take, together where these have the same settings.

        Each call costs what it takes to read the engine's code into the caches once more: one for many is worth while.
        summarize: called with tensors and the settings of their collections as summarize_many has them.
        """

    def take_scalars(self, collection: str, values: Mapping[str, float], phase: str | None = None) -> None:
        """Keep numbers."""

    def take_derived(self, keys: Sequence[TensorKey], suffix: str, values: Sequence[float], phase: str) -> None:
        """Keep a number that says something of each of some tensors, of which take() has kept rows; see names."""

    def guard(self, work: Callable[[], None]) -> None:
        """Run a piece of capture so that no error of it reaches the training loop."""

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep a fact of this step that is no number."""
