"""What may happen to a run: its process is killed, its disk is full, it is very long, it is read all the while."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tensometer import Monitor, open_run

# One run, killed a hundred times and continued each time. What a flush has acknowledged is noted beside it.
KILLED = """
import os, random, signal, sys, time
import numpy as np
from tensometer import Monitor

place, notes = sys.argv[1:]
random.seed(7)
for _ in range(100):
    child = os.fork()
    if child == 0:
        with open(notes, "ab", buffering=0) as file, Monitor(place, every=1, flush_seconds=0.003) as monitor:
            while True:
                step = monitor.current_step
                monitor.record("x", np.full(100, step, np.float32))
                monitor.step(loss=float(step))
                if step % 3 == 0 and monitor.flush():
                    file.write(b"%d\\n" % step)
    time.sleep(random.uniform(0, 0.08))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""

FULL = """
import json, os, sys, time, warnings
from pathlib import Path
import numpy as np
import tensometer
from tensometer.store import Record, RunWriter, TensorKey

place = Path(sys.argv[1])

def submit(steps):
    longest = 0.0
    for step in steps:
        table = tensometer.summarize_many([np.full(4, step, np.float64)])
        begin = time.perf_counter()
        writer.submit(Record(step, 0.0, "train", [TensorKey("x", "custom", "float64", (4,))], table))
        longest = max(longest, time.perf_counter() - begin)
        time.sleep(0.001)
    return longest

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    writer = RunWriter(place / "run", flush_seconds=0.01, queue_bytes=25_000)
    submit(range(10))
    assert writer.flush()
    with open(place / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
    longest = submit(range(10, 310))
    full = writer.flush(0.2)
    (place / "ballast").unlink()
    again = writer.flush(30)
    submit(range(310, 320))
    closed = writer.close()
run = tensometer.open_run(place / "run")
print(json.dumps({
    "longest": longest, "full": full, "again": again, "closed": closed, "dropped": writer.dropped,
    "steps": run.series("x").steps.tolist(), "values": run.series("x")["max"].tolist(), "damaged": run.damaged,
    "warnings": [str(one.message) for one in caught], "left": sorted(p.name for p in (place / "run").rglob(".*")),
}))
"""

LONG = """
import gc, json, os, sys, threading
from tensometer import Monitor

def state():
    gc.collect()
    resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident, len(os.listdir("/proc/self/fd")), threading.active_count()

with Monitor(sys.argv[1], every=1, collections=["losses"], flush_seconds=0.2) as monitor:
    for step in range(100_000):
        monitor.step(loss=float(step))
        # So that what waits to be stored, and grows with the speed of this loop alone, is as much at both ends.
        if step % 5_000 == 0:
            monitor.flush()
        if step in (10_000, 95_000):
            print(json.dumps(state()))
"""


def test_killed_a_hundred_times(tmp_path: Path) -> None:
    place, notes = tmp_path / "run", tmp_path / "notes"
    subprocess.run([sys.executable, "-c", KILLED, str(place), str(notes)], check=True, timeout=300)
    run = open_run(place)
    assert run.damaged == {}
    for name in ("x", "loss"):
        series = run.series(name)
        steps = series.steps.tolist()
        assert steps == list(range(len(steps)))  # each once: continued behind the last that was whole
        assert series["max"].tolist() == steps
    acknowledged = [int(line) for line in notes.read_text().split()]
    assert len(acknowledged) > 20
    assert max(acknowledged) < len(run.steps())
    assert run.steps().tolist() == list(range(len(run.steps())))
    with Monitor(place, every=1) as monitor:
        assert monitor.current_step == len(run.steps())


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, to mount a small disk")
def test_a_full_disk(tmp_path: Path) -> None:
    mounted = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", mounted, "sh", str(tmp_path), sys.executable, FULL]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "unshare" in result.stderr or "mount:" in result.stderr:
        pytest.skip(f"no small disk can be mounted here: {result.stderr}")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["longest"] < 0.1
    assert (told["full"], told["again"], told["closed"]) == (False, True, True)
    assert told["dropped"] > 0
    assert told["damaged"] == {}
    assert told["values"] == told["steps"]
    assert len(told["steps"]) == 320 - told["dropped"]
    assert told["steps"][:10] + told["steps"][-10:] == [*range(10), *range(310, 320)]
    assert len(told["warnings"]) == 1
    assert "No space left on device" in told["warnings"][0]
    assert told["left"] == []


def test_a_hundred_thousand_steps(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LONG, str(tmp_path / "run")], capture_output=True, text=True, check=True, timeout=300
    )
    (early, early_files, early_threads), (late, late_files, late_threads) = map(json.loads, result.stdout.splitlines())
    assert late - early < 8 << 20
    assert (late_files, late_threads) == (early_files, early_threads)
    series = open_run(tmp_path / "run").series("loss")
    assert series["max"].tolist() == list(range(100_000))
    assert len(list((tmp_path / "run" / "rank-00000").iterdir())) < 1000  # as many as seconds, not as steps


def test_read_while_it_is_written(tmp_path: Path) -> None:
    """For some seconds; TENSOMETER_SOAK_SECONDS sets how many."""
    seconds = float(os.environ.get("TENSOMETER_SOAK_SECONDS", "3"))
    monitor = Monitor(tmp_path, every=1, flush_seconds=0.001)
    end = time.monotonic() + seconds

    def train() -> None:
        while time.monotonic() < end:
            step = monitor.current_step
            monitor.record("x", np.full(50, step, np.float32))
            monitor.step()
        monitor.close()

    monitor.record("x", np.zeros(50, np.float32))
    monitor.step()
    assert monitor.flush()
    thread = threading.Thread(target=train)
    thread.start()
    run = open_run(tmp_path)
    seen = 0
    while thread.is_alive():
        run.refresh()
        series = run.series("x")
        assert len(series) >= seen
        assert series["max"].tolist() == list(range(len(series)))
        seen = len(series)
    thread.join()
    run.refresh()
    assert run.damaged == {}
    assert run.series("x").steps.tolist() == list(range(monitor.current_step))


FORKED = """
import os, sys, warnings
import numpy as np, torch
from tensometer import Monitor

warnings.filterwarnings("ignore", category=DeprecationWarning)  # of fork in a process with threads, Python 3.12
monitor = Monitor(sys.argv[1], every=1, recorder=5, flush_seconds=0.001)

def load(index):
    monitor.record("in a worker", np.ones(3))
    monitor.step(loss=-1.0)
    return torch.full((2,), float(index))

for _ in range(3):
    loader = torch.utils.data.DataLoader(range(8), batch_size=None, num_workers=2, collate_fn=load, timeout=60)
    for x in loader:
        monitor.record("x", x)
        monitor.step(loss=float(x[0]))
child = os.fork()
if child == 0:
    sys.exit(0)  # an ordinary end, with everything that runs at exit
assert os.waitpid(child, 0)[1] == 0
monitor.step(loss=100.0)
"""


def test_forked_workers_write_nothing(tmp_path: Path) -> None:
    """A run holds what the process that made the monitor captured, once; nothing hangs."""
    subprocess.run([sys.executable, "-c", FORKED, str(tmp_path / "run")], check=True, timeout=120)
    run = open_run(tmp_path / "run")
    assert [key.name for key in run.tensors("custom")] == ["x"]
    assert run.series("loss")["mean"].tolist() == [float(index) for index in range(8)] * 3 + [100]
    assert run.series("loss").steps.tolist() == list(range(25))
    assert [event.kind for event in run.events()] == ["end"]
