"""Collects what a step captures, and hands it to the writer or the flight recorder when the step is over."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tensometer._core import SummaryTable, summarize_many, summarize_units
from tensometer.capture.cadence import Cadence
from tensometer.capture.checks import check_text
from tensometer.capture.config import CollectionConfig, MonitorConfig, check_collection
from tensometer.capture.recorder import FlightRecorder
from tensometer.notices import warn
from tensometer.store import Record, RunWriter, TensorKey
from tensometer.tensors import bytes_of

# So many different problems are told in the run; there is one warning.
_MOST_PROBLEMS = 100

Summarize = Callable[..., SummaryTable]
_Part = tuple[str, str, Sequence[TensorKey], SummaryTable]  # collection, phase, what, summaries


class Collector:
    """The step in progress; a Sink for captures. Errors of capture end here, unless `strict`."""

    def __init__(self, writer: RunWriter, config: MonitorConfig, *, strict: bool) -> None:
        self._writer, self.strict = writer, strict
        self._cadence = Cadence(config)
        self._recorder = FlightRecorder(config.recorder)
        self._parts: list[_Part] = []
        self._due: Mapping[str, CollectionConfig] = {}
        self._captured: Mapping[str, CollectionConfig] = {}
        self._problems: set[str] = set()
        self._last_keys: dict[str, list[TensorKey]] = {}
        self._scalar_keys: dict[tuple[str, str], TensorKey] = {}
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

    def break_off(self, reason: str) -> None:
        """Training ends in the midst of this step: hand over what was captured of it, and of those before."""
        if self._parts:
            self.end_step()
        self.event("interrupted", {"reason": reason})
        if self.config.recorder:
            self.dump(reason)

    def end_step(self) -> None:
        """Hand over what was captured."""
        if self._captured:
            self.take_scalars("loop", {"capture_seconds": self._nanoseconds / 1e9})
        now = time.time()
        held = []
        for collection, phase, keys, table in self._parts:
            record = Record(self.step, now, phase, keys, table)
            if collection in self._due:
                self._writer.submit(record)
            else:
                held.append(record)
        if held:
            self._recorder.hold(self.step, held)

    def next_step(self) -> None:
        """Go on, whatever happened in the step."""
        self._parts.clear()
        if self._captured:
            self._spent += self._nanoseconds
            self._captured_steps += 1
        self._nanoseconds = 0
        self._cadence.passed(self._due, self._began)
        self._writer.progress(self.step)
        self.step += 1

    def close(self) -> None:
        """Capture nothing more."""
        self._due = self._captured = {}
        self._parts.clear()

    def dump(self, reason: str) -> None:
        """Store what the flight recorder holds."""
        records = self._recorder.release()
        steps = [record.step for record in records]
        for record in records:
            self._writer.submit(record)
        self.event("recorder", {"reason": reason, "first": min(steps, default=None), "last": max(steps, default=None)})

    def wants(self, collection: str, phase: str | None = None) -> bool:
        """Whether the step in progress captures a collection; see Sink."""
        chosen = self._captured.get(collection)
        return chosen is not None and (chosen.phases is None or (phase or self.phase_of()) in chosen.phases)

    def is_due(self, collection: str) -> bool:
        """Whether the step in progress stores a collection; see Sink."""
        return collection in self._due

    def capture_late(self, collections: Iterable[str]) -> None:
        """Capture what was due in an earlier step; see Sink."""
        late = {name: chosen for name, chosen in self.config.collections.items() if name in set(collections)}
        self._due, self._captured = {**self._due, **late}, {**self._captured, **late}

    def takes(self, collection: str, key: TensorKey) -> bool:
        """Whether the settings of the collection let a tensor in; see Sink."""
        chosen = self._captured.get(collection)
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
        collection: str,
        keys: Sequence[TensorKey],
        tensors: Sequence[Any],
        phase: str | None = None,
        *,
        summarize: Summarize = summarize_many,
    ) -> SummaryTable | None:
        """Summarise and keep tensors; see Sink."""
        chosen = self._captured.get(collection)
        if chosen is None:
            return None
        kept = [at for at, key in enumerate(keys) if self.takes(collection, key)]
        if len(kept) < len(keys):
            keys, tensors = [keys[at] for at in kept], [tensors[at] for at in kept]
        if not keys:
            return None
        phase = phase or self.phase_of()
        try:
            table = self._summaries(tensors, chosen, summarize)
        except Exception as error:
            if len(keys) == 1 or summarize is not summarize_many:
                raise
            # One that cannot be read does not take the others with it.
            self.failed(error)
            self._take_each(collection, keys, tensors, phase, chosen)
            return None
        self._keep(collection, keys, tensors, table, phase, chosen)
        return table

    def record(self, name: str, tensor: Any, collection: str) -> None:
        """Keep a tensor of which only the name is known before it is reduced."""
        check_text("name", name)
        check_collection("collection", collection)
        chosen = self._captured.get(collection)
        if chosen is None or not self.wants(collection) or not chosen.takes(name, None, 0):
            return
        table = self._summaries([tensor], chosen)
        key = TensorKey(name, collection, table[0].dtype, table[0].shape)
        if self.takes(collection, key):
            self._keep(collection, [key], [tensor], table, self.phase_of(), chosen)

    def numbers(self, values: Mapping[str, object]) -> dict[str, float]:
        """Numbers, and tensors of one element, as numbers; one that is neither does not take the others with it."""
        found = {}
        for name, value in values.items():
            try:
                found[name] = _number(name, value)
            except Exception as error:
                self.failed(error)
        return found

    def take_scalars(
        self, collection: str, values: Mapping[str, float], phase: str | None = None
    ) -> SummaryTable | None:
        """Keep numbers; see Sink."""
        if not values or not self.wants(collection, phase):
            return None
        keys = [self._scalar_key(collection, name) for name in values]
        numbers = [np.float64(value) for value in values.values()]
        return self.take(collection, keys, numbers, phase, summarize=_summarize_scalars)

    def _same_as_before(self, collection: str, keys: Sequence[TensorKey]) -> Sequence[TensorKey]:
        """One list for all steps that wait to be stored: each would keep a gap in the heap from closing."""
        last = self._last_keys.get(collection)
        if last is None or last != keys:
            last = self._last_keys[collection] = list(keys)
        return last

    def _scalar_key(self, collection: str, name: str) -> TensorKey:
        key = self._scalar_keys.get((collection, name))
        if key is None:
            key = self._scalar_keys[collection, name] = TensorKey(name, collection, "float64", ())
        return key

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep a fact that is no number; see Sink."""
        self._writer.event(self.step, time.time(), kind, data)

    def guard(self, work: Callable[[], None]) -> None:
        """Run a piece of capture so that no error of it reaches the training loop."""
        begin = time.perf_counter_ns()
        try:
            work()
        # Whatever goes wrong in capture, training goes on.
        except Exception as error:
            self.failed(error)
        finally:
            self._nanoseconds += time.perf_counter_ns() - begin

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

    def _summaries(
        self, tensors: Sequence[Any], chosen: CollectionConfig, summarize: Summarize = summarize_many
    ) -> SummaryTable:
        return summarize(
            tensors,
            histogram=chosen.histogram,
            resolution=self.config.resolution if chosen.resolution is None else chosen.resolution,
            threads=self.config.threads,
        )

    def _take_each(
        self, collection: str, keys: Sequence[TensorKey], tensors: Sequence[Any], phase: str, chosen: CollectionConfig
    ) -> None:
        for key, tensor in zip(keys, tensors, strict=True):
            try:
                self._keep(collection, [key], [tensor], self._summaries([tensor], chosen), phase, chosen)
            except Exception as error:
                self.failed(error, f"{key.name}: ")

    def _keep(
        self,
        collection: str,
        keys: Sequence[TensorKey],
        tensors: Sequence[Any],
        table: SummaryTable,
        phase: str,
        chosen: CollectionConfig,
    ) -> None:
        self._parts.append((collection, phase, self._same_as_before(collection, keys), table))
        if chosen.units:
            self._take_units(collection, keys, tensors, phase, chosen)
        # Not of steps that only the flight recorder holds: whole tensors would fill the memory.
        if chosen.save == "raw" and collection in self._due:
            for key, tensor in zip(keys, tensors, strict=True):
                self._writer.raw(self.step, time.time(), phase, key, bytes_of(tensor))

    def _take_units(
        self, collection: str, keys: Sequence[TensorKey], tensors: Sequence[Any], phase: str, chosen: CollectionConfig
    ) -> None:
        for key, tensor in zip(keys, tensors, strict=True):
            if len(key.shape) < 2:
                continue
            axis = int(key.facts.get("unit_axis", 0)) % len(key.shape)
            try:
                table = summarize_units(tensor, axis, histogram=False, threads=self.config.threads)
            except Exception as error:
                # One whose units cannot be told, such as a sparse one, is kept as a whole.
                self.failed(error, f"{key.name}/units: ")
                continue
            shape = key.shape[:axis] + key.shape[axis + 1 :]
            facts = {**key.facts, "units": key.shape[axis]}
            unit = TensorKey(f"{key.name}/units", collection, key.dtype, shape, facts)
            self._parts.append((collection, phase, [unit] * key.shape[axis], table))


def _summarize_scalars(numbers: Sequence[np.float64], *, threads: int | None, **_: object) -> SummaryTable:
    """Of each number: without a histogram, which would say the same once more."""
    return summarize_units(np.array(numbers), 0, threads=threads)


def _number(name: str, value: Any) -> float:
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: {value!r:.100} is not a number: {error}") from error
