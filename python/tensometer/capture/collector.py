"""Collects what a step captures, and hands it to the writer or the flight recorder when the step is over."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tensometer._core import SummaryTable, summarize_many, summarize_units
from tensometer.capture.cadence import Cadence
from tensometer.capture.checks import check_text
from tensometer.capture.config import CollectionConfig, MonitorConfig, check_collection
from tensometer.capture.numbers import number_of, summarize_numbers
from tensometer.capture.recorder import FlightRecorder
from tensometer.capture.sink import Taken
from tensometer.capture.unit_facts import unit_facts
from tensometer.capture.unmatched import Unmatched
from tensometer.notices import warn
from tensometer.store import Event, Record, RunWriter, TensorKey
from tensometer.tensors import bytes_of

# So many different problems are told in the run; there is one warning.
_MOST_PROBLEMS = 100

Summarize = Callable[..., SummaryTable]
# Called with what a step has captured, and the events since the one before.
Observer = Callable[[Sequence[Record], Sequence[Event]], None]


class _Settings(NamedTuple):
    """What tensors must have in common to be summarised and stored together."""

    histogram: bool | str
    resolution: int
    units: bool
    unit_counts: bool
    raw: bool
    due: bool  # to be stored, not only held by the flight recorder


class _Part(NamedTuple):
    phase: str
    keys: Sequence[TensorKey]
    table: SummaryTable
    due: bool


class Collector:
    """The step in progress; a Sink for captures. Errors of capture end here, unless `strict`."""

    def __init__(
        self, writer: RunWriter, config: MonitorConfig, *, strict: bool, observer: Observer | None = None
    ) -> None:
        self._writer, self.strict, self._observer = writer, strict, observer
        self._events: list[Event] = []
        self._cadence = Cadence(config)
        self._recorder = FlightRecorder(config.recorder)
        self._parts: list[_Part] = []
        self._due: Mapping[str, CollectionConfig] = {}
        self._captured: Mapping[str, CollectionConfig] = {}
        self._problems: set[str] = set()
        self._unmatched = Unmatched(config.collections, self.misused)
        self._settings: dict[str, _Settings] = {}
        self._scalars: dict[str, tuple[list[TensorKey], list[float]]] = {}  # by phase
        self._last_keys: dict[tuple[str, str], list[TensorKey]] = {}
        self._scalar_keys: dict[tuple[str, str], TensorKey] = {}
        self._derived_keys: dict[tuple[str, str, str], TensorKey] = {}
        self._nanoseconds = self._spent = self._captured_steps = 0
        self._began = 0.0
        self.named_phase = ""
        self.step = writer.last_step() + 1

    @property
    def config(self) -> MonitorConfig:
        """The settings in force."""
        return self._cadence.config

    def configure(self, config: MonitorConfig) -> None:
        """Other settings from the next step on."""
        self._cadence.replace(config)
        self._recorder.resize(config.recorder)
        self._unmatched.watch(config.collections)

    @property
    def overhead(self) -> float:
        """Seconds of the caller's time that a captured step cost, on average."""
        return self._spent / 1e9 / self._captured_steps if self._captured_steps else 0.0

    @property
    def captures(self) -> bool:
        """Whether anything is captured in this step."""
        return bool(self._captured)

    def begin_step(self) -> None:
        """Decide what is captured. Asked again, as for another number of the step, it decides anew."""
        self._began = time.monotonic()
        self._due = self._cadence.due(self.step, self._began)
        self._captured = self._cadence.captured(self.step, self._due)
        self._settings.clear()

    def break_off(self, reason: str) -> None:
        """Training ends in the midst of this step: hand over what was captured of it, and of those before."""
        if self._parts or self._scalars:
            self.end_step()
        self.event("interrupted", {"reason": reason})
        if self.config.recorder:
            self.dump(reason)

    def end_step(self) -> None:
        """Hand over what was captured."""
        if self._captured:
            self.take_scalars("loop", {"capture_seconds": self._nanoseconds / 1e9})
        for phase, (scalars, numbers) in self._scalars.items():
            self.take(scalars, numbers, phase, summarize=summarize_numbers)
        now = time.time()
        parts = [(Record(self.step, now, phase, keys, table), due) for phase, keys, table, due in self._parts]
        stored = [record for record, due in parts if due]
        held = [record for record, due in parts if not due]
        if stored:
            self._writer.submit(*stored)
        if held:
            self._recorder.hold(self.step, held)
        if self._observer is not None and parts:
            events, self._events = self._events, []
            self._observer([record for record, _ in parts], events)
        self._unmatched.end_step()

    def next_step(self) -> None:
        """Go on, whatever happened in the step."""
        self._parts.clear()
        self._scalars.clear()
        if self._captured:
            self._spent += self._nanoseconds
            self._captured_steps += 1
        self._nanoseconds = 0
        self._cadence.passed(self._due, self._began)
        self._writer.progress(self.step)
        self.step += 1

    def close(self) -> None:
        """Capture nothing more."""
        if not self.strict:
            self._unmatched.close()
        self._due = self._captured = {}
        self._parts.clear()
        self._scalars.clear()

    def dump(self, reason: str) -> None:
        """Store what the flight recorder holds."""
        records = self._recorder.release()
        steps = [record.step for record in records]
        self._writer.submit(*records)
        self.event("recorder", {"reason": reason, "first": min(steps, default=None), "last": max(steps, default=None)})

    def wants(self, collection: str, phase: str | None = None) -> bool:
        """Whether the step in progress captures a collection; see Sink."""
        chosen = self._captured.get(collection)
        return chosen is not None and (chosen.phases is None or (phase or self.phase_of()) in chosen.phases)

    def awaits(self, collection: str) -> bool:
        """Whether the step in progress captures a collection in any phase; see Sink."""
        return collection in self._captured

    def counts_classes(self, phase: str) -> bool:
        """Whether the step in progress counts the classes of labels; see Sink."""
        return self.wants("labels", phase) and self._captured["labels"].class_counts

    def is_due(self, collection: str) -> bool:
        """Whether the step in progress stores a collection; see Sink."""
        return collection in self._due

    def capture_late(self, collections: Iterable[str]) -> None:
        """Capture what was due in an earlier step; see Sink."""
        late = {name: chosen for name, chosen in self.config.collections.items() if name in set(collections)}
        self._due, self._captured = {**self._due, **late}, {**self._captured, **late}
        self._settings.clear()

    def takes(self, key: TensorKey) -> bool:
        """Whether the settings of its collection let a tensor in; see Sink."""
        chosen = self._captured.get(key.collection)
        if chosen is None:
            return False
        elements = 0 if chosen.largest is None else math.prod(key.shape)
        return chosen.takes(key.name, key.facts.get("module_type"), elements)

    def phase_of(self, *, training: bool = True) -> str:
        """The phase that the loop has named, or the model's mode; see Sink."""
        return self.named_phase or ("train" if training else "eval")

    @property
    def threads(self) -> int | None:
        """Threads of the engine; see Sink."""
        return self.config.threads

    def take(
        self,
        keys: Sequence[TensorKey],
        tensors: Sequence[Any],
        phase: str | None = None,
        *,
        summarize: Summarize = summarize_many,
    ) -> list[Taken]:
        """Summarise and keep tensors; see Sink."""
        phase = phase or self.phase_of()
        alike: dict[_Settings, list[int]] = {}
        for at, key in enumerate(keys):
            if self.takes(key):
                alike.setdefault(self._settings_of(key.collection), []).append(at)
        self._unmatched.saw(keys, alike.values())
        taken = []
        for settings, places in alike.items():
            few = len(places) < len(keys)
            chosen = [keys[at] for at in places] if few else keys
            given = [tensors[at] for at in places] if few else tensors
            taken += self._take_alike(chosen, given, phase, settings, summarize)
        return taken

    def record(self, name: str, tensor: Any, collection: str) -> None:
        """Keep a tensor of which only the name is known before it is reduced."""
        check_text("name", name)
        check_collection("collection", collection)
        if not self.wants(collection) or not self._captured[collection].takes(name, None, 0):
            return
        settings = self._settings_of(collection)
        try:
            table = self._summaries([tensor], settings)
        except Exception as error:
            self.failed(error, f"{name}: ")
            return
        key = TensorKey(name, collection, table[0].dtype, table[0].shape)
        if self.takes(key):
            self._keep([key], [tensor], table, self.phase_of(), settings)

    def numbers(self, values: Mapping[str, object]) -> dict[str, float]:
        """Numbers, and tensors of one element, as numbers; one that is neither does not take the others with it."""
        found = {}
        for name, value in values.items():
            try:
                found[name] = number_of(name, value)
            except Exception as error:
                self.failed(error)
        return found

    def take_scalars(self, collection: str, values: Mapping[str, float], phase: str | None = None) -> None:
        """Keep numbers; see Sink."""
        if not values or not self.wants(collection, phase):
            return
        # All of a step are kept together when it ends.
        keys, numbers = self._scalars.setdefault(phase or self.phase_of(), ([], []))
        keys += [self._scalar_key(collection, name) for name in values]
        numbers += [float(value) for value in values.values()]

    def take_derived(self, keys: Sequence[TensorKey], suffix: str, values: Sequence[float], phase: str) -> None:
        """Keep numbers that say something of tensors; see Sink."""
        kept, numbers = self._scalars.setdefault(phase, ([], []))
        kept += [self._derived_key(key, suffix) for key in keys]
        numbers += values

    def _same_as_before(self, keys: Sequence[TensorKey]) -> Sequence[TensorKey]:
        """One list for all steps that wait to be stored: each would keep a gap in the heap from closing."""
        first = (keys[0].collection, keys[0].name)
        last = self._last_keys.get(first)
        if last is None or last != keys:
            last = self._last_keys[first] = list(keys)
        return last

    def _scalar_key(self, collection: str, name: str) -> TensorKey:
        key = self._scalar_keys.get((collection, name))
        if key is None:
            key = self._scalar_keys[collection, name] = TensorKey(name, collection, "float64", ())
        return key

    def _derived_key(self, key: TensorKey, suffix: str) -> TensorKey:
        mark = (key.collection, key.name, suffix)
        found = self._derived_keys.get(mark)
        if found is None or (found.facts is not key.facts and found.facts != key.facts):
            name = f"{key.name}/{suffix}"
            found = self._derived_keys[mark] = TensorKey(name, key.collection, "float64", (), key.facts)
        return found

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
            work()
        # Whatever goes wrong in capture, training goes on.
        except Exception as error:
            self.failed(error)
        finally:
            # Not once more what guards within this one have counted.
            self._nanoseconds = before + time.perf_counter_ns() - begin

    def failed(self, error: Exception, what: str = "") -> None:
        """An error of capture is told in the run, each once, and the first in a warning too; raised if `strict`."""
        if self.strict:
            raise error
        sentence = f"{type(error).__name__}: {what}{error}"
        if sentence in self._problems or len(self._problems) == _MOST_PROBLEMS:
            return
        self._problems.add(sentence)
        self.event("problem", {"error": sentence})
        if len(self._problems) == 1:
            warn(f"step {self.step} could not be captured: {sentence}; training goes on")

    def misused(self, error: Exception) -> None:
        """What only a person can mend is told in the run and in a warning, each time; raised if `strict`."""
        if self.strict:
            raise error
        self.event("problem", {"error": f"{type(error).__name__}: {error}"})
        warn(f"{error}; training goes on")

    def _settings_of(self, collection: str) -> _Settings:
        found = self._settings.get(collection)
        if found is None:
            chosen = self._captured[collection]
            resolution = self.config.resolution if chosen.resolution is None else chosen.resolution
            due = collection in self._due
            # Not of steps that only the flight recorder holds: whole tensors would fill the memory.
            raw = chosen.save == "raw" and due
            units = (chosen.units, chosen.unit_counts)
            found = self._settings[collection] = _Settings(chosen.histogram, resolution, *units, raw, due)
        return found

    def _summaries(
        self, tensors: Sequence[Any], settings: _Settings, summarize: Summarize = summarize_many
    ) -> SummaryTable:
        return summarize(
            tensors, histogram=settings.histogram, resolution=settings.resolution, threads=self.config.threads
        )

    def _take_alike(
        self, keys: Sequence[TensorKey], tensors: Sequence[Any], phase: str, settings: _Settings, summarize: Summarize
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
        self, keys: Sequence[TensorKey], tensors: Sequence[Any], phase: str, settings: _Settings
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
        self, keys: Sequence[TensorKey], tensors: Sequence[Any], table: SummaryTable, phase: str, settings: _Settings
    ) -> Sequence[TensorKey]:
        """The keys, as the list that is the same in all steps."""
        keys = self._same_as_before(keys)
        self._parts.append(_Part(phase, keys, table, settings.due))
        if settings.units or settings.unit_counts:
            self._take_units(keys, tensors, phase, settings)
        if settings.raw:
            for key, tensor in zip(keys, tensors, strict=True):
                self._writer.raw(self.step, time.time(), phase, key, bytes_of(tensor))
        return keys

    def _take_units(self, keys: Sequence[TensorKey], tensors: Sequence[Any], phase: str, settings: _Settings) -> None:
        for key, tensor in zip(keys, tensors, strict=True):
            if len(key.shape) < 2:
                continue
            axis = int(key.facts.get("unit_axis", 0)) % len(key.shape)
            # Rows of a weight that are alike are meant to differ; what else has units may well repeat.
            alike = settings.unit_counts and key.collection == "weights"
            try:
                table = summarize_units(tensor, axis, fingerprint=alike, threads=self.config.threads)
            except Exception as error:
                # One whose units cannot be told, such as a sparse one, is kept as a whole.
                self.failed(error, f"{key.name}/units: ")
                continue
            if settings.unit_counts:
                for suffix, value in unit_facts(table, alike=alike).items():
                    self.take_derived([key], suffix, [value], phase)
            if settings.units:
                shape = key.shape[:axis] + key.shape[axis + 1 :]
                facts = {**key.facts, "units": key.shape[axis]}
                unit = TensorKey(f"{key.name}/units", key.collection, key.dtype, shape, facts)
                self._parts.append(_Part(phase, [unit] * key.shape[axis], table, settings.due))
