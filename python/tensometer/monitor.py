"""The monitor of a training run: what people attach to their loop."""

import atexit
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tensometer.actions import StopTraining, actions_of
from tensometer.capture.checks import check_choice, check_text, check_timeout, whole
from tensometer.capture.collector import Collector
from tensometer.capture.config import MonitorConfig
from tensometer.capture.config_file import ENVIRONMENT, ConfigFile
from tensometer.capture.nonfinite import Origin
from tensometer.capture.process import process_group, rank_and_size
from tensometer.capture.recorder import LastWords, unhandled_exception
from tensometer.capture.sink import Taken
from tensometer.judge import widened
from tensometer.notices import warn
from tensometer.responder import Responder
from tensometer.rules import chosen as chosen_rules
from tensometer.store import RunWriter, open_place

if TYPE_CHECKING:
    from torch.amp import GradScaler
    from torch.nn import Module
    from torch.optim import Optimizer

    from tensometer.capture.torch_capture import TorchCapture

# How long a process that is told to end by a signal may still store.
_LAST_SECONDS = 5.0


class Monitor:
    """Captures the summaries of a training run into a run directory or URL.

    config: a MonitorConfig, plain values of one, or the path of a TOML file of them, by default the one that the
    environment variable TENSOMETER_CONFIG names; when the file is edited, the next step follows. Settings of
    MonitorConfig given by keyword (every=10) win over it. rank, world_size: by default those of torch.distributed, if
    it is initialised, or of RANK and WORLD_SIZE, or one process. strict: raise errors of capture instead of warning
    once. rules: True for the default set, a list of rules, settings of rules or the path of a TOML file of them (see
    tensometer.rules); what they read is captured too, unless `widen` is false, and without `every` each of the first
    500 steps. on_finding: called with each Finding, or an action or a list of them (see tensometer.actions); with it
    alone, the rules are the default set. A run that is there is continued behind its last step. TypeError, ValueError
    or OSError for wrong settings; later, TypeError or ValueError for wrong arguments of the methods that say so,
    StopTraining where somebody asks for that, and no other error.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        config: MonitorConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        strict: bool = False,
        rules: object = None,
        on_finding: object = None,
        widen: bool = True,
        **settings: Any,
    ) -> None:
        check_choice("strict", strict, (True, False))
        check_choice("widen", widen, (True, False))
        actions = actions_of(on_finding)
        self._rules = chosen_rules(rules) if rules is not None or on_finding is None else chosen_rules(True)
        self._widen, self._place = widen, rank_and_size(rank, world_size)
        place = open_place(url)
        self._responder = Responder(self._rules, actions, place=place, rank=self._place[0])
        if config is None:
            config = os.environ.get(ENVIRONMENT) or {}
        self._settings = settings
        self._file = ConfigFile(config) if isinstance(config, str | os.PathLike) else None
        if self._file is not None:
            config = self._file.read()
        chosen = self._with_settings(config)  # type: ignore[arg-type]
        self._place_is_certain = rank is not None
        own_rank, size = self._place
        self._writer = RunWriter(
            url, rank=own_rank, world_size=size, config=chosen.to_dict(), flush_seconds=chosen.flush_seconds
        )
        self._collector = Collector(self._writer, chosen, strict=strict, observer=self._responder.observer)
        self._responder.begin(self._collector)
        self._origin = Origin(self._collector)
        # By name: the model without what wraps it, and its capture.
        self._attached: dict[str, tuple[Module, TorchCapture]] = {}
        self._closed = False
        self._last_words: LastWords | None = None
        self._heed_signal()
        atexit.register(self._at_exit)
        self._begin()

    def _with_settings(self, config: MonitorConfig | Mapping[str, Any]) -> MonitorConfig:
        if not isinstance(config, MonitorConfig | Mapping):
            raise TypeError(f"config: {config!r} is neither a MonitorConfig, a mapping, nor the path of a file")
        given = config.to_dict() if isinstance(config, MonitorConfig) else config
        given = {**given, **self._settings}
        config = MonitorConfig.from_dict(given)
        return (
            widened(config, self._rules, given, before_update=self._responder.before_update) if self._widen else config
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(error)

    def attach(
        self,
        model: "Module",
        *,
        optimizer: "Optimizer | Sequence[Optimizer] | None" = None,
        loss: "Module | None" = None,
        scaler: "GradScaler | None" = None,
        name: str = "",
    ) -> None:
        """Capture a model: parameters, gradients, inputs, and what else the configuration asks for.

        optimizer: one or several; gradients are then those that it is about to use, otherwise those at the end of the
        step. loss: a module that is called with predictions and labels. scaler: of automatic mixed precision, whose
        scale and skipped steps are recorded. name: a prefix, for several models. A model that is attached already is
        attached anew, with these arguments. TypeError for other objects, ValueError for the name of another model that
        is attached. A closed monitor attaches nothing, and warns.
        """
        from tensometer.capture.torch_capture import TorchCapture

        if self._closed:
            warn("attach: the monitor is closed, and captures nothing")
            return
        check_text("name", name)
        inner = _inner(model)
        if optimizer is None and self._responder.before_update:
            warn("optimizer: an action before the update has none to wait for; it comes when the step is over")
        if name in self._attached and self._attached[name][0] is not inner:
            raise ValueError(f"name: {name!r} is that of another model; give each its own, or detach() the other first")
        capture = TorchCapture(
            model,
            optimizer,
            loss=loss,
            scaler=scaler,
            prefix=f"{name}." if name else "",
            sink=self._collector,
            origin=self._origin,
            every_pass=self.config.micro_batches,
            clipping=self.config.clipping,
            veto=self._veto if self._responder.before_update else None,
        )
        self.detach(model)
        self._attached[name] = (inner, capture)
        self._collector.guard(capture.begin_step)
        self._compare_place()

    def _compare_place(self) -> None:
        """Whether PyTorch's process group, which may have come after the monitor, agrees with what was found then."""
        group = process_group()
        if self._place_is_certain or group is None or group == self._place:
            return
        self._place_is_certain = True  # it is said once
        (rank, size), (own, own_size) = group, self._place
        sentence = f"torch.distributed says {rank} of {size}, this monitor writes as {own} of {own_size}"
        advice = "initialise the process group before the Monitor is made, or give it rank= and world_size="
        self._collector.misused(ValueError(f"rank: {sentence}; {advice}"))

    def detach(self, model: "Module | None" = None) -> None:
        """Remove all hooks from a model, or from all, to attach others. A model that is not attached: nothing."""
        for name, (inner, capture) in list(self._attached.items()):
            if model is None or inner is _inner(model):
                capture.detach()
                del self._attached[name]

    def record(self, name: str, tensor: object, *, collection: str = "custom") -> None:
        """Capture any tensor that the engine reads, if this step is captured. collection: one of those configured.

        Another tensor, name or collection is an error of capture: told, and nothing is recorded.
        """
        if self._collector.captures:
            self._collector.guard(partial(self._collector.record, name, tensor, collection))

    def record_booster(self, booster: object, evals: "Sequence[tuple[Any, str]]" = ()) -> None:
        """Capture the last round of an XGBoost booster; see tensometer.capture.xgboost_booster.record_booster."""
        from tensometer.capture.xgboost_booster import record_booster

        record_booster(self, booster, evals)

    def step(self, /, **scalars: object) -> None:
        """Close the step. By keyword: losses ("loss" is in the name) and metrics, numbers or tensors of one element.

        StopTraining is raised behind a step if an action asks for it, or another process (docs/actions.md).
        """
        if self._closed:
            return
        guard = self._collector.guard
        captures = self._collector.captures
        # Each by itself: one that fails does not take the others with it.
        if captures:
            guard(partial(self._take_losses_and_metrics, scalars))
            for _, capture in self._attached.values():
                guard(capture.end_step)
        if captures or self._origin.watching:
            guard(partial(self._collector.after, self._origin.end_step))
        if captures:
            guard(self._collector.end_step)
        guard(self._collector.collect)
        stop = self._responder.end_step()
        self._collector.next_step()
        self._begin()
        if stop is not None:
            raise stop

    def _take_losses_and_metrics(self, scalars: Mapping[str, object]) -> None:
        for collection, of_losses in (("losses", True), ("metrics", False)):
            if not self._collector.wants(collection):
                continue
            named = {name: value for name, value in scalars.items() if ("loss" in name) is of_losses}
            use = partial(self._take_numbers, collection, self._collector.phase_of())
            self._collector.numbers(named, use)

    def _take_numbers(self, collection: str, phase: str, values: Mapping[str, float]) -> None:
        self._collector.take_scalars(collection, values, phase)
        if collection == "losses" and not all(map(math.isfinite, values.values())):
            self._origin.report("loss", {"losses": {name: str(value) for name, value in values.items()}})

    def _veto(self, gradients: Sequence[Taken]) -> bool:
        """Whether an update is to be left out. If training is to stop, the step is closed, which raises."""
        request = self._responder.veto(gradients)
        if isinstance(request, StopTraining):
            self.step()
        return request is not None

    def _begin(self) -> None:
        self._collector.guard(self._collector.collect)
        self._collector.guard(self._follow_file)
        self._collector.begin_step()
        for _, capture in self._attached.values():
            self._collector.guard(capture.begin_step)

    def _follow_file(self) -> None:
        if self._file is None or not self._file.changed():
            return
        try:
            asked = self._with_settings(self._file.read())
        except (OSError, TypeError, ValueError) as error:
            self._collector.misused(error)
            return
        config = asked.keeping_fixed(self.config)
        self._collector.configure(config)
        self._heed_signal()
        self._collector.event("config", config.to_dict())
        if config != asked:
            names = ", ".join(config.differing(asked))
            what = f"{self._file.path}: {names}: cannot change while training runs; a new Monitor is needed"
            self._collector.misused(ValueError(what))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Mark what is captured inside as of another phase: eval, or any name.

        Without it, what a model in evaluation mode computes is of the phase "eval", everything else of "train".
        """
        before, self._collector.named_phase = self._collector.named_phase, name
        try:
            yield
        finally:
            self._collector.named_phase = before

    @property
    def config(self) -> MonitorConfig:
        """The settings in force."""
        return self._collector.config

    def resume_at(self, step: int) -> None:
        """Number the step in progress, for a loop that goes on from a checkpoint. A step that is past: nothing.

        TypeError or ValueError if it is no whole number from 0.
        """
        number = whole("step", step, 0)
        if number > self.current_step and not self._closed:
            self._collector.renumber(number)
            self._begin()

    @property
    def strict(self) -> bool:
        """Whether errors of capture are raised."""
        return self._collector.strict

    @property
    def current_step(self) -> int:
        """Number of the step in progress."""
        return self._collector.step

    @property
    def overhead(self) -> float:
        """Seconds of the caller's time that a captured step cost so far, on average; 0 before the first."""
        return self._collector.overhead

    @property
    def dropped(self) -> int:
        """Summaries that could not be stored, or were of tensors on a CUDA device that was too far behind."""
        return self._writer.dropped + self._collector.dropped

    def dump(self, reason: str = "request") -> None:
        """Store the steps that the flight recorder holds, and say in the run why."""
        if not self._closed:
            self._await_device(self.config.close_seconds)
            self._collector.guard(partial(self._collector.dump, reason))

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything captured so far can be read; False if it cannot after `timeout` seconds.

        TypeError or ValueError if the timeout is no number of seconds.
        """
        check_timeout("timeout", timeout)
        began = time.monotonic()
        there = self._await_device(timeout)
        return self._writer.flush(max(0.0, began + timeout - time.monotonic())) and there

    def close(self, error: BaseException | None = None) -> None:
        """Remove all hooks and store what is left. The monitor captures nothing afterwards.

        error: what ends the training, if it is an exception, as at the end of a with block: then what the step in
        progress has captured so far is stored too, and what the flight recorder holds, and an event says why.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._at_exit)
        if error is not None:
            self._collector.guard(partial(self._collector.after, self._origin.end_step))
            self._collector.guard(partial(self._collector.break_off, f"{type(error).__name__}: {error}"))
        self._await_device(self.config.close_seconds, lose=True)
        if self._last_words is not None:
            self._last_words.close()
        self.detach()
        self._responder.close(self.config.close_seconds)
        self._collector.close()
        self._writer.close(self.config.close_seconds)

    def _await_device(self, seconds: float, *, lose: bool = False) -> bool:
        """Wait for the rows of tensors on a CUDA device; False if they have not come by then. lose: they never will."""
        there: list[bool] = []
        self._collector.guard(lambda: there.append(self._collector.wait(seconds, lose=lose)))
        return there == [True]

    def _at_exit(self) -> None:
        self.close(unhandled_exception())

    def _heed_signal(self) -> None:
        """Listen to the signal that ends the process as long as there is a flight recorder."""
        if self.config.recorder and self._last_words is None:
            self._last_words = LastWords(self._speak)
        elif not self.config.recorder and self._last_words is not None:
            self._last_words.close()
            self._last_words = None

    def _speak(self, reason: str, ends: bool) -> None:
        self._await_device(_LAST_SECONDS)
        if not self._closed:
            self._collector.guard(partial(self._collector.dump, reason))
        if ends:
            self._writer.close(_LAST_SECONDS)
        else:
            self._writer.flush(_LAST_SECONDS)


def _inner(model: "Module") -> "Module":
    from tensometer.capture.torch_tensors import unwrapped

    return unwrapped(model)[0]
