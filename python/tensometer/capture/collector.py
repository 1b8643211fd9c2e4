"""Collects what a step captures, and hands it to the writer or the flight recorder when the step is over."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from tensometer._core import SummaryTable, summarize_many, summarize_units
from tensometer.capture.batches import NotCapturedError, Options, any_on_device, on_device, some_on_device
from tensometer.capture.cadence import Cadence
from tensometer.capture.checks import check_text
from tensometer.capture.config import MonitorConfig, check_collection
from tensometer.capture.deferred import Deferred
from tensometer.capture.keys import Keys
from tensometer.capture.numbers import numbers_of, summarize_numbers
from tensometer.capture.problems import Problems
from tensometer.capture.recorder import FlightRecorder
from tensometer.capture.reducer import Reducer
from tensometer.capture.sink import Taken, TellUpdates
from tensometer.capture.step import CapturedStep, Part, Settings
from tensometer.capture.unit_facts import unit_facts
from tensometer.capture.unmatched import Unmatched
from tensometer.store import Event, Record, RunWriter, TensorKey
from tensometer.tensors import bytes_of

Summarize = Callable[..., SummaryTable]
# Called with what a step has captured, and the events since the one before.
Observer = Callable[[Sequence[Record], Sequence[Event]], None]


class Collector(Reducer):
    """The step in progress; a Sink for captures. Errors of capture end here, unless `strict`."""

    def __init__(
        self, writer: RunWriter, config: MonitorConfig, *, strict: bool, observer: Observer | None = None
    ) -> None:
        self._writer, self.strict, self._observer = writer, strict, observer
        self._events: list[Event] = []
        self._cadence = Cadence(config)
        self._recorder = FlightRecorder(config.recorder)
        super().__init__(writer.last_step() + 1, threads=config.threads, guard=self.guard, failed=self.failed)
        self._keys = Keys()
        self._problems = Problems(
            strict, lambda sentence: self.event("problem", {"error": sentence}), lambda: self.step
        )
        self._unmatched = Unmatched(config.collections, self.misused)
        self._nanoseconds = self._spent = self._captured_steps = 0
        self._began = 0.0
        self._keeps_out: Callable[[], bool] | None = None
        self.named_phase = ""

    @property
    def config(self) -> MonitorConfig:
        """The settings in force."""
        return self._cadence.config

    def configure(self, config: MonitorConfig) -> None:
        """Other settings from the next step on."""
        self._cadence.replace(config)
        self._recorder.resize(config.recorder)
        self._threads = config.threads
        self._unmatched.watch(config.collections)

    @property
    def overhead(self) -> float:
        """Seconds of the caller's time that a captured step cost, on average."""
        return self._spent / 1e9 / self._captured_steps if self._captured_steps else 0.0

    @property
    def captures(self) -> bool:
        """Whether anything is captured in this step."""
        return bool(self._now.captured)

    def begin_step(self) -> None:
        """Decide what is captured. Asked again, as for another number of the step, it decides anew."""
        self._began = time.monotonic()
        now = self._now
        now.due = self._cadence.due(now.number, self._began)
        now.captured = self._cadence.captured(now.number, now.due)
        now.settings.clear()

    def break_off(self, reason: str) -> None:
        """Training ends in the midst of this step: hand over what was captured of it, and of those before."""
        now = self._now
        if now.parts or now.scalars or now.waiting:
            self.end_step()
        self.wait(self.config.close_seconds, lose=True)
        self.event("interrupted", {"reason": reason})
        if self.config.recorder:
            self.dump(reason)

    def end_step(self) -> None:
        """Hand over what was captured, once it is there."""
        if self._now.captured:
            self.take_scalars("loop", {"capture_seconds": self._nanoseconds / 1e9})
        self.submit()
        self.after(partial(self._finish, time.time()))

    def _finish(self, now: float) -> None:
        step = self._now
        for phase, (scalars, numbers) in step.scalars.items():
            self.take(scalars, numbers, phase, summarize=summarize_numbers)
        there = [(one, one.table) for one in step.parts if one.table is not None]
        parts = [(Record(step.number, now, one.phase, one.keys, table), one.due) for one, table in there]
        stored = [record for record, due in parts if due]
        held = [record for record, due in parts if not due]
        if stored:
            self._writer.submit(*stored)
        if held:
            self._recorder.hold(step.number, held)
        if self._observer is not None and parts:
            # Those of later steps wait for these.
            events = [event for event in self._events if event.step <= step.number]
            self._events = [event for event in self._events if event.step > step.number]
            self._observer([record for record, _ in parts], events)
        self._unmatched.end_step()

    def next_step(self) -> None:
        """Go on, whatever happened in the step."""
        before = self._now
        if before.captured:
            self._spent += self._nanoseconds
            self._captured_steps += 1
        self._nanoseconds = 0
        self._cadence.passed(before.due, self._began)
        self._writer.progress(before.number)
        super().next_step()

    def close(self) -> None:
        """Capture nothing more."""
        if not self.strict:
            self._unmatched.close()
        self._now = CapturedStep(self._now.number)

    def dump(self, reason: str) -> None:
        """Store what the flight recorder holds."""
        records = self._recorder.release()
        steps = [record.step for record in records]
        self._writer.submit(*records)
        self.event("recorder", {"reason": reason, "first": min(steps, default=None), "last": max(steps, default=None)})

    def wants(self, collection: str, phase: str | None = None) -> bool:
        """Whether the step in progress captures a collection; see Sink."""
        chosen = self._now.captured.get(collection)
        return chosen is not None and (chosen.phases is None or (phase or self.phase_of()) in chosen.phases)

    def awaits(self, collection: str) -> bool:
        """Whether the step in progress captures a collection in any phase; see Sink."""
        return collection in self._now.captured

    def counts_classes(self, phase: str) -> bool:
        """Whether the step in progress counts the classes of labels; see Sink."""
        return self.wants("labels", phase) and self._now.captured["labels"].class_counts

    def is_due(self, collection: str) -> bool:
        """Whether the step in progress stores a collection; see Sink."""
        return collection in self._now.due

    def capture_late(self, collections: Iterable[str]) -> None:
        """Capture what was due in an earlier step; see Sink."""
        chosen = set(collections)
        self._now.add({name: one for name, one in self.config.collections.items() if name in chosen})

    def takes(self, key: TensorKey) -> bool:
        """Whether the settings of its collection let a tensor in; see Sink."""
        return self._now.takes(key)

    def phase_of(self, *, training: bool = True) -> str:
        """The phase that the loop has named, or the model's mode; see Sink."""
        return self.named_phase or ("train" if training else "eval")

    def take(
        self,
        keys: Sequence[TensorKey],
        tensors: Sequence[Any],
        phase: str | None = None,
        *,
        summarize: Summarize = summarize_many,
    ) -> list[Taken]:
        """Summarise and keep tensors; see Sink."""
        phase, now, resolution = phase or self.phase_of(), self._now, self.config.resolution
        alike: dict[Settings, list[int]] = {}
        for at, key in enumerate(keys):
            if now.takes(key):
                alike.setdefault(now.settings_of(key.collection, resolution), []).append(at)
        self._unmatched.saw(keys, alike.values())
        taken: list[Taken] = []
        for settings, places in alike.items():
            few = len(places) < len(keys)
            chosen = [keys[at] for at in places] if few else keys
            given = [tensors[at] for at in places] if few else tensors
            if summarize is summarize_many and some_on_device(given):
                self._hold_alike(chosen, given, phase, settings, taken)
            else:
                taken += self._take_alike(chosen, given, phase, settings, summarize)
        return taken

    def take_compared(
        self,
        keys: Sequence[TensorKey],
        differences: Sequence[Any],
        phase: str,
        submit: Callable[..., Any],
        tell: TellUpdates,
    ) -> None:
        """Keep what a device finds of differences; see Sink."""
        if not keys or not all(map(self.takes, keys)):
            return  # others than those that there were before the update
        settings = self._now.settings_of(keys[0].collection, self.config.resolution)
        part = Part(phase, self._keys.same_as_before(keys), None, settings.due)
        self._now.parts.append(part)

        def there(found: tuple[SummaryTable, dict[str, Any]]) -> None:
            part.table, columns = found
            tell(part.keys, columns, phase)

        started = partial(submit, histogram=settings.histogram, resolution=settings.resolution)
        if self.await_other(started, len(keys), there):  # else these are the differences of an earlier step
            self._keep_more(keys, differences, phase, settings)

    def record(self, name: str, tensor: Any, collection: str) -> None:
        """Keep a tensor of which only the name is known before it is reduced."""
        check_text("name", name)
        check_collection("collection", collection)
        if not self.wants(collection) or not self._now.captured[collection].takes(name, None, 0):
            return
        settings = self._now.settings_of(collection, self.config.resolution)
        tensor = tensor.tensor() if isinstance(tensor, Deferred) else tensor
        if any_on_device(tensor):
            key = TensorKey(name, collection, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            if self.takes(key):
                self._hold_alike([key], [tensor], self.phase_of(), settings, [])
                if not on_device(tensor):
                    self.submit()  # nobody tells whether it is changed in place before the step ends
            return
        try:
            table = self._summaries([tensor], settings)
        except Exception as error:
            self.failed(error, f"{name}: ")
            return
        key = TensorKey(name, collection, table[0].dtype, table[0].shape)
        if self.takes(key):
            self._keep([key], [tensor], table, self.phase_of(), settings)

    def numbers(self, values: Mapping[str, object], use: Callable[[dict[str, float]], None]) -> None:
        """Numbers, and tensors of one element, as numbers; one that is neither does not take the others with it."""
        numbers_of(values, self, use)

    def take_scalars(self, collection: str, values: Mapping[str, float], phase: str | None = None) -> None:
        """Keep numbers; see Sink."""
        if not values or not self.wants(collection, phase):
            return
        keys = [self._keys.scalar(collection, name) for name in values]
        self._take_numbers(keys, [float(value) for value in values.values()], phase or self.phase_of())

    def take_derived(self, keys: Sequence[TensorKey], suffix: str, values: Sequence[float], phase: str) -> None:
        """Keep numbers that say something of tensors; see Sink."""
        self._take_numbers([self._keys.derived(key, suffix) for key in keys], values, phase)

    def _take_numbers(self, keys: Sequence[TensorKey], values: Sequence[float], phase: str) -> None:
        def keep() -> None:
            # All of a step are kept together when it ends.
            kept, numbers = self._now.scalars.setdefault(phase, ([], []))
            kept += keys
            numbers += values

        self.after(keep)

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep a fact that is no number; see Sink."""
        now = time.time()
        self._writer.event(self.step, now, kind, data)
        if self._observer is not None:
            self._events.append(Event(self.step, now, kind, data))

    def guard(self, work: Callable[[], None]) -> None:
        """Run a piece of capture so that no error of it reaches the training loop."""
        begin, before = time.perf_counter_ns(), self._nanoseconds
        try:
            if self._keeps_out is not None and self._keeps_out():
                raise NotCapturedError(
                    "a CUDA graph is being captured: nothing is read in it, for its replays would read it too"
                )
            work()
        # Whatever goes wrong in capture, training goes on.
        except Exception as error:
            self.failed(error)
        finally:
            # Not once more what guards within this one have counted.
            self._nanoseconds = before + time.perf_counter_ns() - begin

    def keep_out(self, when: Callable[[], bool]) -> None:
        """Leave out all capture at certain times; see Sink."""
        self._keeps_out = when

    def failed(self, error: Exception, what: str = "") -> None:
        """An error of capture is told in the run, each once, and the first in a warning too; raised if `strict`."""
        self._problems.failed(error, what)

    def misused(self, error: Exception) -> None:
        """What only a person can mend is told in the run and in a warning, each time; raised if `strict`."""
        self._problems.misused(error)

    def _summaries(
        self, tensors: Sequence[Any], settings: Settings, summarize: Summarize = summarize_many
    ) -> SummaryTable:
        return summarize(
            tensors, histogram=settings.histogram, resolution=settings.resolution, threads=self.config.threads
        )

    def _take_alike(
        self, keys: Sequence[TensorKey], tensors: Sequence[Any], phase: str, settings: Settings, summarize: Summarize
    ) -> list[Taken]:
        try:
            table = self._summaries(tensors, settings, summarize)
        except Exception as error:
            if summarize is not summarize_many:
                raise
            self.failed(error)
            # One that cannot be read does not take the others with it.
            return self._take_each(keys, tensors, phase, settings) if len(keys) > 1 else []
        return [(self._keep(keys, tensors, table, phase, settings), table)]

    def _take_each(
        self, keys: Sequence[TensorKey], tensors: Sequence[Any], phase: str, settings: Settings
    ) -> list[Taken]:
        taken: list[Taken] = []
        for key, tensor in zip(keys, tensors, strict=True):
            try:
                table = self._summaries([tensor], settings)
                taken.append((self._keep([key], [tensor], table, phase, settings), table))
            except Exception as error:
                self.failed(error, f"{key.name}: ")
        return taken

    def _keep(
        self, keys: Sequence[TensorKey], tensors: Sequence[Any], table: SummaryTable, phase: str, settings: Settings
    ) -> Sequence[TensorKey]:
        """The keys, as the list that is the same in all steps."""
        keys = self._keys.same_as_before(keys)
        self._now.parts.append(Part(phase, keys, table, settings.due))
        if settings.units or settings.unit_counts or settings.raw:
            self._keep_more(keys, tensors, phase, settings)
        return keys

    def _hold_alike(
        self, keys: Sequence[TensorKey], tensors: Sequence[Any], phase: str, settings: Settings, taken: list[Taken]
    ) -> None:
        """Hold tensors of which some lie on a device: they are among the `taken` when they are there."""
        part = Part(phase, self._keys.same_as_before(keys), None, settings.due)
        self._now.parts.append(part)

        def there(table: SummaryTable, places: Sequence[int]) -> None:
            if len(places) < len(part.keys):
                part.keys = [part.keys[at] for at in places]
            part.table = table
            taken.append((part.keys, table))

        options = Options(settings.histogram, settings.resolution)
        self.hold(tensors, [key.name for key in keys], options, there)
        self._keep_more(keys, tensors, phase, settings)

    def _keep_more(self, keys: Sequence[TensorKey], tensors: Sequence[Any], phase: str, settings: Settings) -> None:
        for key, tensor in zip(keys, tensors, strict=True) if settings.units or settings.unit_counts else ():
            if len(key.shape) > 1:
                self._take_units(key, tensor, phase, settings)
        for key, tensor in zip(keys, tensors, strict=True) if settings.raw else ():
            self.fetch_whole(key.name, tensor, partial(self._keep_whole, time.time(), phase, key))

    def _keep_whole(self, now: float, phase: str, key: TensorKey, tensor: Any) -> None:
        self._writer.raw(self.step, now, phase, key, bytes_of(tensor))

    def _take_units(self, key: TensorKey, tensor: Any, phase: str, settings: Settings) -> None:
        axis = int(key.facts.get("unit_axis", 0)) % len(key.shape)
        # Rows of a weight that are alike are meant to differ; what else has units may well repeat.
        alike = settings.unit_counts and key.collection == "weights"
        part = Part(phase, self._keys.units(key, axis) if settings.units else (), None, settings.due)

        def keep(table: SummaryTable, _: Sequence[int] = ()) -> None:
            if settings.unit_counts:
                for suffix, value in unit_facts(table, alike=alike).items():
                    self.take_derived([key], suffix, [value], phase)
            if settings.units:
                part.table = table

        try:
            if on_device(tensor):
                self.hold_units(tensor, axis, key.name, Options(fingerprint=alike), keep)
            else:
                keep(summarize_units(tensor, axis, fingerprint=alike, threads=self.config.threads))
        except Exception as error:
            # One whose units cannot be told, such as a sparse one, is kept as a whole.
            self.failed(error, f"{key.name}/units: ")
        else:
            self._now.parts.append(part)
