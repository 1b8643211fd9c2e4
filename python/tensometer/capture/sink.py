"""What a framework's capture tells, and whom."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tensometer._core import SummaryTable, summarize_many
from tensometer.store import TensorKey


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

    def takes(self, collection: str, key: TensorKey) -> bool:
        """Whether a collection that the step in progress captures takes a tensor."""

    def phase_of(self, *, training: bool) -> str:
        """The phase that the loop has named; otherwise that of a model in training or in evaluation mode."""

    def take(
        self,
        collection: str,
        keys: Sequence[TensorKey],
        tensors: Sequence[Any],
        phase: str | None = None,
        *,
        summarize: Callable[..., SummaryTable] = summarize_many,
    ) -> SummaryTable | None:
        """Summarise and keep tensors; a table of those that the collection takes, None if it takes none.

        summarize: called with the tensors and the settings of the collection as summarize_many has them.
        """

    def take_scalars(
        self, collection: str, values: Mapping[str, float], phase: str | None = None
    ) -> SummaryTable | None:
        """Keep numbers; a table as take() returns it."""

    def guard(self, work: Callable[[], None]) -> None:
        """Run a piece of capture so that no error of it reaches the training loop."""

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep a fact of this step that is no number."""
