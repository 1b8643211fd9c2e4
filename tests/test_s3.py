"""Runs in a bucket: a real S3 server, and one that fails in every way between."""

import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tensometer
from faulty_proxy import FaultyProxy
from tensometer import Monitor, open_run
from tensometer.store import Record, RunWriter, TensorKey
from watching import until, watched

# Less seconds than any wait for a server (2 at least), more than a busy machine takes a process away.
AT_ONCE = 1.5

# Of other libraries, about themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of an S3 server in a process of its own."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=1):
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/runs", method="PUT"), timeout=5).close()
        yield port
        process.terminate()


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[FaultyProxy]:
    """A way to the server that can be disturbed; fsspec goes through it, to the bucket `runs`."""
    between = FaultyProxy(server)
    retries = {"retries": {"max_attempts": 1}, "connect_timeout": 2, "read_timeout": 5}
    settings = {
        "endpoint_url": f"http://127.0.0.1:{between.port}",
        "key": "key",
        "secret": "hidden",
        "config_kwargs": retries,
    }
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield between
    between.fault = ""
    between.close()


def record(step: int) -> Record:
    table = tensometer.summarize_many([np.full(4, step, np.float64)])
    return Record(step, 0.0, "train", [TensorKey("x", "custom", "float64", (4,))], table)


def steps_in(url: str) -> list[int]:
    return open_run(url).series("x").steps.tolist()


def submit(writer: RunWriter, steps: range) -> float:
    """The longest that a call took."""
    longest = 0.0
    for step in steps:
        begin = time.perf_counter()
        writer.submit(record(step))
        longest = max(longest, time.perf_counter() - begin)
        time.sleep(0.005)
    return longest


def test_a_monitored_run(proxy: FaultyProxy) -> None:
    with Monitor("s3://runs/plain", every=1, strict=True, collections={"custom": {"save": "raw"}}) as monitor:
        for step in range(5):
            monitor.record("x", np.full(3, step, np.float32))
            monitor.step(loss=1 / (step + 1))
    run = open_run("s3://runs/plain")
    assert run.series("x")["mean"].tolist() == [0, 1, 2, 3, 4]
    assert run.tensor("x", 3).tolist() == [3, 3, 3]
    assert run.ended
    assert "hidden" not in str(run.about)
    with Monitor("s3://runs/plain", every=1) as monitor:
        assert monitor.current_step == 5
        monitor.step(loss=0.0)
    assert run.refresh() > 0
    assert run.series("loss").steps.tolist() == list(range(6))


@pytest.mark.parametrize("fault", ["refuse", "error", "cut", "lose", "slow"])
def test_nothing_acknowledged_is_lost_and_nobody_waits(proxy: FaultyProxy, fault: str) -> None:
    url = f"s3://runs/{fault}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        writer = RunWriter(url, flush_seconds=0.02)
        assert submit(writer, range(10)) < AT_ONCE
        assert writer.flush(20)
        proxy.fault = fault
        assert submit(writer, range(10, 40)) < AT_ONCE
        if fault not in ("lose", "slow"):
            assert not writer.flush(0.3)  # nothing is acknowledged that is not stored
        proxy.fault = ""
        assert writer.flush(30)
        submit(writer, range(40, 50))
        assert writer.close(30)
    assert writer.dropped == 0
    assert steps_in(url) == list(range(50))  # each once, also where the answer to a PUT was lost
    assert len([one for one in caught if issubclass(one.category, RuntimeWarning)]) <= 1
    assert all("training goes on" in str(one.message) for one in caught if issubclass(one.category, RuntimeWarning))


def test_a_reader_survives_a_bucket_that_is_away(proxy: FaultyProxy) -> None:
    url = "s3://runs/read"
    writer = RunWriter(url)
    submit(writer, range(2))
    assert writer.flush(20)
    run = open_run(url)
    submit(writer, range(2, 4))
    assert writer.close(20)
    proxy.fault = "refuse"
    with pytest.warns(RuntimeWarning, match=r"cannot be listed: .*; the next refresh\(\) tries again"):
        assert run.refresh() == 0
    with pytest.raises(OSError, match="s3://runs/read"):
        open_run(url)
    proxy.fault = ""
    assert run.refresh() == 2
    assert run.series("x").steps.tolist() == [0, 1, 2, 3]


def test_a_run_is_watched_through_a_bucket_that_goes_away(proxy: FaultyProxy) -> None:
    url = "s3://runs/watched"
    with watched(url) as (seen, outcome), Monitor(url, every=1, strict=True, flush_seconds=0.1) as monitor:
        for step in range(40):
            monitor.record("x", np.full(3, 19.0 if step in (10, 30) else 0.0))
            monitor.step(loss=1.0)
            if step == 20:
                until(lambda: seen.steps == [10])
                proxy.fault = "refuse"
                until(lambda: len(seen.notes) == 1)
                proxy.fault = ""
    assert seen.steps == [10, 30]
    assert outcome[0].failed == {}
    with watched(url) as (again, _):
        pass
    assert again.steps == [10, 30]
    assert len(fsspec.filesystem("s3").cat(f"{url}/findings.jsonl").splitlines()) == 2


def test_a_bucket_that_never_answers_delays_nothing_for_long(proxy: FaultyProxy) -> None:
    proxy.fault = "refuse"
    begin = time.monotonic()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        monitor = Monitor("s3://runs/absent", every=1, close_seconds=0.5)
        for _ in range(5):
            monitor.step(loss=1.0)
        monitor.close()
    assert time.monotonic() - begin < 20
    assert monitor.dropped > 0


def test_two_writers_with_one_rank_lose_nothing(proxy: FaultyProxy) -> None:
    """A mistake, but not one that may cost data: a number that is taken is never taken again.

    They take turns: of two PUTs of one name at once, this server lets both succeed, which S3 does not.
    """
    writers = [RunWriter("s3://runs/both", flush_rows=1) for _ in range(2)]
    for step in range(4):
        for writer, first in zip(writers, (0, 4), strict=True):
            writer.submit(record(first + step))
            assert writer.flush(20)
    assert all(writer.close() for writer in writers)
    assert sorted(steps_in("s3://runs/both")) == list(range(8))


def test_a_bucket_that_is_not_there(proxy: FaultyProxy) -> None:
    with pytest.raises((FileNotFoundError, OSError)):
        open_run("s3://nowhere/run")


def test_memory(tmp_path: Path) -> None:
    with Monitor("memory://run", every=1, strict=True) as monitor:
        monitor.step(loss=1.0)
    assert open_run("memory://run").series("loss")["mean"].tolist() == [1]
