"""Work in the threads of PyTorch's OpenMP runtime: the same bits, and nothing hangs. A process for each test."""

import subprocess
import sys
import textwrap

import pytest

BEGIN = """
import os, pickle, sys, threading
import numpy as np, tensometer, torch
from pathlib import Path
from tensometer._core import share_openmp

LIBRARY = str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")
x = np.random.default_rng(0).standard_normal(3_000_000).astype(np.float32)

def bits(**options):
    return pickle.dumps(tensometer.summarize(x, histogram=True, fingerprint=True, **options))

def threads():
    return len(os.listdir("/proc/self/task"))
"""


def run(code: str) -> str:
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(code)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_same_bits_without_threads_of_its_own() -> None:
    run(
        """
        torch.set_num_threads(3)
        expected = bits(threads=1)
        (torch.ones(500, 500) @ torch.ones(500, 500)).sum()
        assert share_openmp(LIBRARY)
        torch.add(torch.ones(1 << 20), 1)  # now the runtime has its threads
        before = threads()
        assert {bits(threads=n) for n in (2, 3, 5)} == {expected}
        assert threads() == before, (before, threads())
        torch.set_num_threads(1)  # nothing to share: a thread of the pool
        assert bits(threads=2) == expected
        assert threads() == before + 1
        """
    )


def test_other_threads_and_forked_children_use_the_pool() -> None:
    run(
        """
        torch.set_num_threads(2)
        assert share_openmp(LIBRARY)
        expected = bits(threads=2)
        found = []
        workers = [threading.Thread(target=lambda: found.append(bits(threads=2))) for _ in range(3)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        assert found == [expected] * 3
        child = os.fork()
        if child == 0:
            shared = share_openmp(LIBRARY)  # as a monitor that is made there does
            os._exit(0 if not shared and bits(threads=2) == expected else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert bits(threads=2) == expected
        """
    )


def test_libraries_without_openmp() -> None:
    run(
        """
        assert not share_openmp("/nowhere/libnothing.so")
        assert not share_openmp(sys.modules["tensometer._core"].__file__)
        try:
            share_openmp(5)
        except TypeError as error:
            assert "library: 5" in str(error), error
        else:
            raise AssertionError("taken")
        """
    )


@pytest.mark.parametrize("count", [1, 2])
def test_training_is_not_changed(count: int) -> None:
    run(
        f"""
        import tempfile
        def losses(watched):
            torch.manual_seed(0)
            torch.set_num_threads({count})
            model = torch.nn.Sequential(torch.nn.Linear(64, 900), torch.nn.ReLU(), torch.nn.Linear(900, 900))
            optimizer = torch.optim.Adam(model.parameters())
            found = []
            with tempfile.TemporaryDirectory() as folder, tensometer.Monitor(folder, every=1, strict=True) as monitor:
                if watched:
                    monitor.attach(model, optimizer=optimizer)
                for _ in range(4):
                    optimizer.zero_grad()
                    loss = model(torch.randn(128, 64)).square().mean()
                    loss.backward()
                    optimizer.step()
                    monitor.step(loss=loss)
                    found.append(loss.item())
            return found
        assert losses(True) == losses(False) == losses(True)
        """
    )
