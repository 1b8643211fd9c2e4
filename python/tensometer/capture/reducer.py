"""Where tensors are summarised: at once on the CPU, and on a CUDA device behind what its stream is at."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from tensometer._core import Summary, SummaryTable, summarize_many
from tensometer.capture.batches import (
    Awaited,
    Batch,
    Batches,
    NotCapturedError,
    Options,
    Promise,
    any_on_device,
    has_duplicates,
    on_device,
    some_on_device,
)
from tensometer.capture.in_flight import InFlight
from tensometer.capture.step import CapturedStep
from tensometer.capture.turns import Turns

# Called with a table, and which of the tensors its rows are of.
UseRows = Callable[[SummaryTable, Sequence[int]], None]


class Reducer:
    """Part of a collector: holds what lies on devices for few submits, and does in order what is done with its rows.

    step: the number of the one in progress. guard: runs a piece of capture so that no error of it reaches the training
    loop. failed: tells of an error of capture.
    """

    def __init__(
        self,
        step: int,
        *,
        threads: int | None,
        guard: Callable[[Callable[[], None]], None],
        failed: Callable[..., None],
    ) -> None:
        self._now = CapturedStep(step)
        self._guarded, self._failed = guard, failed
        self._batches = Batches(failed)
        self._in_flight = InFlight(self._guard_in, self._failed_in)
        self._threads = threads
        self._turns = Turns()

    @property
    def step(self) -> int:
        """Number of the step in progress, or of the one whose rows have come; see Sink."""
        return self._now.number

    def renumber(self, number: int) -> None:
        """Number the step in progress."""
        self._now.number = number

    @property
    def threads(self) -> int | None:
        """Threads of the engine; see Sink."""
        return self._threads

    @property
    def dropped(self) -> int:
        """Summaries of tensors whose device was too far behind."""
        return self._batches.dropped

    def hold(self, tensors: Sequence[Any], names: Sequence[str], options: Options, use: UseRows) -> None:
        """Hold tensors of which some lie on a device, for the next submit; names as Batch.add has them."""
        with self._turns.turn():
            batch = self._batches.batch(options)
            numbers = [self._batches.add(batch, one, name) for one, name in zip(tensors, names, strict=True)]
            self._await(batch, numbers, use)

    def hold_units(self, tensor: Any, axis: int, name: str, options: Options, use: UseRows) -> None:
        """The same of the units of a tensor, which lie along a dimension."""
        with self._turns.turn():
            batch = self._batches.batch(options)
            self._await(batch, self._batches.add_units(batch, tensor, axis, name), use)

    def _await(self, batch: Batch, numbers: Sequence[int], use: UseRows) -> None:
        def there() -> None:
            places = {place: at for at, place in enumerate(batch.places(numbers)) if place is not None}
            if batch.table is not None and places:
                first = min(places)
                use(batch.table.part(first, first + len(places)), list(places.values()))

        self._in_flight.wait_with(self._now, batch, there)

    def await_other(self, submit: Callable[[], Promise | None], rows: int, use: Callable[[Any], None]) -> bool:
        """Submit at once what is no summary, of so many rows; False if there was no slot."""
        pending = None if self._in_flight.is_full else submit()
        if pending is None:
            self._batches.drop(rows)
            return False
        awaited = Awaited(pending)

        def there() -> None:
            if awaited.found is not None:
                use(awaited.found)

        self._in_flight.wait_with(self._now, awaited, there)
        return True

    def look(self, tensors: Sequence[Any], use: Callable[[Sequence[Summary]], None]) -> None:
        """Summarise tensors of which nothing is kept; see Sink."""

        def all_there(rows: Sequence[Summary | None]) -> None:
            there = [one for one in rows if one is not None]
            if len(there) == len(rows):
                use(there)

        self.look_at_some(tensors, all_there)

    def look_at_some(self, tensors: Sequence[Any], use: Callable[[Sequence[Summary | None]], None]) -> None:
        """The same where some may be missing; see Sink."""
        if not any(map(any_on_device, tensors)):
            rows = list(summarize_many(tensors, threads=self._threads))
            self.after(lambda: use(rows))
            return
        with self._turns.turn():
            batch = self._batches.any()
            known = [batch.known(tensor) for tensor in tensors]
            numbers = [batch.add(one) if at is None else at for at, one in zip(known, tensors, strict=True)]

            def there() -> None:
                table = batch.table
                if table is not None:
                    use([None if at is None else table[at] for at in batch.places(numbers)])

            self._in_flight.wait_with(self._now, batch, there)

    def reduce(self, tensors: Sequence[Any], use: Callable[[SummaryTable], None]) -> None:
        """The same, for what is done with a whole table."""
        if not any(map(any_on_device, tensors)):
            table = summarize_many(tensors, threads=self._threads)
            self.after(lambda: use(table))
            return

        wanted = len(tensors)  # they themselves are not kept alive until their rows come

        def all_there(table: SummaryTable, places: Sequence[int]) -> None:
            if len(places) == wanted:
                use(table)

        self.hold(tensors, [""] * len(tensors), Options(), all_there)

    def fetch(self, tensors: Sequence[Any], use: Callable[[Sequence[Any]], None]) -> None:
        """Have whole tensors in the host's memory; see Sink."""
        if not some_on_device(tensors):
            use(tensors)
            return
        from tensometer.capture.torch_host_copies import HostCopies  # there is PyTorch, whose tensors these are

        self.await_other(partial(HostCopies, tensors), len(tensors), use)

    def fetch_whole(self, name: str, tensor: Any, use: Callable[[Any], None]) -> None:
        """The same of one tensor of any library. One that cannot be copied is told, and takes no others with it."""
        if any_on_device(tensor) and not on_device(tensor):
            self._failed(NotCapturedError("of CUDA tensors only those of PyTorch are kept whole"))
        elif not has_duplicates(tensor):  # of which is told where it is to be summarised
            try:
                self.fetch([tensor], lambda tensors: use(tensors[0]))
            except Exception as error:
                self._failed(error, f"{name}: ")

    def submit(self) -> None:
        """Let devices begin with what is held; but not in the midst of holding more."""
        with self._turns.turn() as first:
            if first:
                self._batches.submit(self._threads, full=self._in_flight.is_full)

    def keep_copy(self, tensor: Any) -> None:
        """A tensor is about to be changed in place."""
        with self._turns.turn():
            self._batches.copy(tensor)

    def after(self, work: Callable[[], None]) -> None:
        """Do something once what was taken before is there: at once, if it is."""
        self._in_flight.after(self._now, work)

    def next_step(self) -> None:
        """Go on with another step."""
        self.submit()
        with self._turns.turn():
            self._in_flight.add(self._now)
            self._now = CapturedStep(self._now.number + 1)

    def collect(self) -> None:
        """Go on with steps of which more is there by now. Never waits."""
        self._in_flight.collect()

    def wait(self, seconds: float | None = None, *, lose: bool = False) -> bool:
        """Submit, and wait until all is done, also of the step in progress; as InFlight.wait.

        False at once for a signal's handler that came in the midst of holding tensors, or of a submit.
        """
        with self._turns.turn() as first:
            if not first:
                return False
        self.submit()
        return self._in_flight.wait(self._now, seconds, lose=lose)

    def _guard_in(self, step: CapturedStep, work: Callable[[], None]) -> None:
        """Run a piece of work of a step that may be over by now."""
        with self._in(step):
            self._guarded(work)

    def _failed_in(self, step: CapturedStep, error: Exception) -> None:
        """Tell of an error in a step that may be over by now."""
        with self._in(step):
            self._failed(error)

    @contextmanager
    def _in(self, step: CapturedStep) -> Iterator[None]:
        present, self._now = self._now, step
        try:
            yield
        finally:
            self._now = present
