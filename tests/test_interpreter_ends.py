"""The interpreter ends, whatever its threads are doing, and changes its environment meanwhile."""

import pytest
from scripts import output_of, started

ENDS = {
    "pool": "tensometer.summarize(x, threads=4)",
    "at exit": "import atexit; atexit.register(lambda: tensometer.summarize(x, threads=4))",
    "finalizer": """
class Last:
    def __del__(self, call=tensometer.summarize, x=x): assert call(x, threads=4).count == 1_000_000
sys.last_one = Last()
""",
    "threads that end later": """
for _ in range(3): threading.Thread(target=lambda: [tensometer.summarize(x, threads=3) for _ in range(50)]).start()
""",
    "daemons": """
inside = threading.Event()
def loop():
    while True:
        tensometer.summarize(x, threads=2)
        inside.set()
for _ in range(2): threading.Thread(target=loop, daemon=True).start()
inside.wait()
""",
}


@pytest.mark.parametrize("name", ENDS)
def test_the_interpreter_ends_cleanly(name: str) -> None:
    head = "import sys, threading, numpy as np, tensometer\nx = np.ones(1_000_000, np.float32)\n"
    assert output_of(started(head + ENDS[name])) == ""


def test_nothing_is_looked_up_in_the_first_call() -> None:
    # It would let other threads run where a daemon thread may be ended, with C++ around it that cannot be unwound.
    script = """import builtins, numpy as np, tensometer
summarize, x, found, usual = tensometer.summarize, np.ones(5, np.float32), [], builtins.__import__
def watched(name, *arguments, **settings):
    found.append(name)
    return usual(name, *arguments, **settings)
builtins.__import__ = watched
summarize(x)
builtins.__import__ = usual
assert not found, found"""
    assert output_of(started(script)) == ""


def test_the_environment_may_change_meanwhile() -> None:
    # Python moves the environment while it holds its lock, so nobody may read it without. Each value is long enough to
    # take the place that the environment has just left.
    script = """import os, threading, numpy as np, tensometer
del os.environ["TENSOMETER_NUM_THREADS"]
x, done = np.ones(140_000, np.float32), threading.Event()
def loop():
    while not done.is_set(): tensometer.summarize(x)
threads = [threading.Thread(target=loop) for _ in range(3)]
for thread in threads: thread.start()
for k in range(5000): os.environ[f"V{k}"] = "x" * (8 * k)
done.set()"""
    assert output_of(started(script)) == ""
