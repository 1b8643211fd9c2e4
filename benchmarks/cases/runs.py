"""Runs on disk: how large, how fast handed over and read, and what a monitor holds in memory."""

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensometer
import torch
from tensometer.store import Record, RunWriter, TensorKey

from benchmarks import answers
from benchmarks.harness import Case, Figures, Side
from benchmarks.scale import Scale
from benchmarks.training import NETWORKS

TENSORS = 1000
# Kilobytes that a process holds at the end of a training, with a monitor or without one.
MEMORY = """
import ctypes, sys, tempfile
import numpy, tensometer, torch, zstandard
import tensometer.monitor, tensometer.capture.torch_capture, tensometer.store
from benchmarks.training import NETWORKS
torch.manual_seed(0)
training = NETWORKS["transformer"](tiny=sys.argv[2] == "tiny")
with tempfile.TemporaryDirectory() as folder:
    monitor = None
    if sys.argv[1] == "monitor":
        monitor = tensometer.Monitor(folder, every=1)
        monitor.attach(training.model, optimizer=training.optimizer, loss=training.loss)
    for _ in range(60):
        loss = training.step()
        if monitor is not None:
            monitor.step(loss=loss)
    # What the heap holds free for PyTorch's temporaries varies by 40 MB from process to process: it goes back first.
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
    if monitor is not None:
        monitor.close()
"""


def record(step: int, *, histogram: bool) -> Record:
    """1000 summaries of tensors that differ."""
    rng = np.random.default_rng(step)
    tensors = {f"layer.{i}.weight": rng.standard_normal(256).astype(np.float32) for i in range(TENSORS)}
    keys = [TensorKey(name, "weights", "float32", x.shape) for name, x in tensors.items()]
    table = tensometer.summarize_many(tensors, histogram=histogram, resolution=3)
    return Record(step, float(step), "train", keys, table)


def hand_over(scale: Scale) -> Case:
    """submit() while the writer's thread encodes and stores what came before."""
    given = record(0, histogram=True)
    writers: list[RunWriter] = []

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            writers[:] = [RunWriter(folder, queue_bytes=1 << 40)]
            yield
            writers[0].close(0.0)  # what is left is of no use

    def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            writer = RunWriter(folder)
            writer.submit(given)
            answers.same("whether all was stored", writer.close(), True)
            l2 = tensometer.open_run(folder).table()["l2"].tolist()
            answers.same("norms", l2, given.table.column("l2").tolist())

    return Case(TENSORS, 4 * 256 * TENSORS, (Side("submit", lambda: writers[0].submit(given), context),), check)


def reading(scale: Scale) -> Case:
    """A run of 1,000,000 summaries with histograms, into arrays of three statistics."""
    steps = 2 if scale.rounds == 1 else 1000
    folder = tempfile.TemporaryDirectory()
    given = [record(step, histogram=True) for step in range(min(steps, 10))]
    writer = RunWriter(folder.name, queue_bytes=1 << 40)
    for step in range(steps):
        chosen = given[step % len(given)]
        writer.submit(Record(step, chosen.time, chosen.phase, chosen.keys, chosen.table))
    answers.same("whether all was stored", writer.close(600.0), True)

    def read() -> tensometer.store.Table:
        # The folder lives as long as this function.
        return tensometer.open_run(folder.name).table(statistics=("mean", "std", "l2"))

    def check() -> None:
        table = read()
        answers.same("rows", len(table), steps * TENSORS)
        last = given[(steps - 1) % len(given)].table
        answers.same("the last norms", table["l2"][-TENSORS:].tolist(), last.column("l2").tolist())

    return Case(steps * TENSORS, 4 * 256 * steps * TENSORS, (Side("open_run and table", read),), check)


def _stored_bytes(scale: Scale, *, histogram: bool | str) -> float:
    """Bytes a tensor and step, of 50 steps of the transformer."""
    torch.manual_seed(0)
    training = NETWORKS["transformer"](tiny=scale.rounds == 1)
    steps = 2 if scale.rounds == 1 else 50
    collections = {name: {"histogram": histogram} for name in ("weights", "biases", "gradients", "losses", "loop")}
    with tempfile.TemporaryDirectory() as folder:
        with tensometer.Monitor(folder, every=1, collections=collections, flush_seconds=60) as monitor:
            monitor.attach(training.model, optimizer=training.optimizer, loss=training.loss)
            for _ in range(steps):
                monitor.step(loss=training.step())
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.tmz"))
        return size / len(tensometer.open_run(folder).table(statistics=("mean",)))


def stored(scale: Scale) -> Figures:
    """Bytes on disk."""
    scalars, histograms = (_stored_bytes(scale, histogram=histogram) for histogram in (False, "sampled"))
    return Figures({"bytes, scalars": scalars, "bytes, with histogram": histograms})


def memory(scale: Scale) -> Figures:
    """Megabytes above the same training without a monitor."""
    size, turns = ("tiny", 1) if scale.rounds == 1 else ("full", 3)
    held: dict[str, list[float]] = {"monitor": [], "alone": []}
    for _ in range(turns):
        for who, found in held.items():
            command = [sys.executable, "-c", MEMORY, who, size]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(int(ended.stdout) / 1024)
    watched, alone = (statistics.median(found) for found in held.values())
    return Figures({"MB, with a monitor": watched, "MB above": watched - alone})


CASES = {"hand over 1000 summaries": hand_over, "read 1,000,000 summaries": reading}
FIGURES = {"stored bytes": stored, "memory of a monitor": memory}
