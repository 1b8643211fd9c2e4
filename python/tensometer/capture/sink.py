"""What a framework's capture tells, and whom."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tensometer._core import Summary, SummaryTable, summarize_many
from tensometer.store import TensorKey

# Tensors that were taken, and a row of each.
Taken = tuple[Sequence[TensorKey], SummaryTable]
# Called with updates, columns of what is known of each, and their phase.
TellUpdates = Callable[[Sequence[TensorKey], dict[str, Any], str], None]


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
        Tensors on CUDA devices are held until submit() is called, and are among what is returned when their rows have
        come, maybe in a later step: what is to be done with them goes through after().
        """

    def take_compared(
        self,
        keys: Sequence[TensorKey],
        differences: Sequence[Any],
        phase: str,
        submit: Callable[..., Any],
        tell: TellUpdates,
    ) -> None:
        """Keep what a CUDA device finds of differences of tensors.

        submit: called with the settings of their collection. It returns what a table and columns will come of, or None
        where there is no free slot. tell: called with those, when they are there.
        """

    def after(self, work: Callable[[], None]) -> None:
        """Do something once all that was taken and looked at before is there: at once, if it is.

        Then the step in progress is, to those who ask, the one in which this was called.
        """

    def look(self, tensors: Sequence[Any], use: Callable[[Sequence[Summary]], None]) -> None:
        """Summarise tensors of which nothing is kept, and use the rows when they are there; as take() holds them."""

    def look_at_some(self, tensors: Sequence[Any], use: Callable[[Sequence[Summary | None]], None]) -> None:
        """The same where some may be missing: None for a tensor on a CUDA device that could not be read."""

    def reduce(self, tensors: Sequence[Any], use: Callable[[SummaryTable], None]) -> None:
        """The same, for what is done with a whole table."""

    def fetch(self, tensors: Sequence[Any], use: Callable[[Sequence[Any]], None]) -> None:
        """Have whole tensors of PyTorch in the host's memory, at once, or when a CUDA device has copied them there."""

    def numbers(self, values: Mapping[str, object], use: Callable[[dict[str, float]], None]) -> None:
        """Numbers, and tensors of one element, as numbers; one that is neither does not take the others with it."""

    def submit(self) -> None:
        """Let CUDA devices begin with what is held. There are only so many submits that can be under way."""

    def wait(self) -> bool:
        """Wait until all that was taken so far is there."""

    def keep_copy(self, tensor: Any) -> None:
        """A tensor that may be held is about to be changed in place."""

    def failed(self, error: Exception) -> None:
        """Tell of something that could not be captured."""

    def take_scalars(self, collection: str, values: Mapping[str, float], phase: str | None = None) -> None:
        """Keep numbers."""

    def take_derived(self, keys: Sequence[TensorKey], suffix: str, values: Sequence[float], phase: str) -> None:
        """Keep a number that says something of each of some tensors, of which take() has kept rows; see names."""

    def guard(self, work: Callable[[], None]) -> None:
        """Run a piece of capture so that no error of it reaches the training loop."""

    def keep_out(self, when: Callable[[], bool]) -> None:
        """Leave out all that is guarded while this is true: that is told once."""

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep a fact of this step that is no number."""
