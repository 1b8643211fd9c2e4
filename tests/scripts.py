"""Python programs that tests run in a process of their own."""

import os
import subprocess
import sys

import pytest


def started(script: str, **variables: str) -> subprocess.Popen[str]:
    # Threads are counted, so NumPy gets no others.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "TENSOMETER_NUM_THREADS": ""} | variables
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script], env=environment, text=True, stdout=pipe, stderr=pipe)


def output_of(process: subprocess.Popen[str]) -> str:
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail("the process hangs")
    assert (process.returncode, err) == (0, "")
    return out
