"""The kernels' PTX, and the fake driver, which stands where a GPU's would."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import fake_cuda
import nvcc
import pytest
from ptx_launch import Layout, compile_ptx, layout
from tensometer.store import Record, RunWriter

if TYPE_CHECKING:
    from torch_stand_in import LatePendings  # needs torch, which takes longer to import than some tests do


@pytest.fixture(scope="session")
def ptx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ptx")


@pytest.fixture(scope="session")
def ptx_text(ptx_folder: Path) -> str:
    """The kernels as nvcc emits them."""
    return compile_ptx(str(nvcc.find()), ptx_folder, 80)


@pytest.fixture(scope="session")
def ptx_layout(ptx_folder: Path) -> Layout:
    """How the tables lie in memory."""
    return layout(ptx_folder)


@pytest.fixture(scope="session")
def fake_library() -> Path:
    return fake_cuda.build()


@pytest.fixture
def fake(fake_library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_cuda.Driver]:
    """Opened for this process, whose devices stay in use: tests that break one run in a process of their own."""
    monkeypatch.setenv("TENSOMETER_LIBCUDA", str(fake_library))
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2")
    for name, value in fake_cuda.image_settings().items():
        monkeypatch.setenv(name, value)
    driver = fake_cuda.Driver(fake_library)
    driver.reset()
    yield driver
    driver.finish()


@pytest.fixture
def device(fake: fake_cuda.Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_cuda.Driver]:
    from torch_stand_in import install

    monkeypatch.setenv("TENSOMETER_FAKE", "adopt=1")
    fake.reset()
    install(fake, monkeypatch)
    yield fake
    # Whatever else this process tests, not all of its memory is the device's.
    fake.finish()
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2")
    fake.reset()


@pytest.fixture
def late(device: fake_cuda.Driver, monkeypatch: pytest.MonkeyPatch) -> "LatePendings":
    """Results come when the test releases them."""
    from tensometer.capture import batches
    from torch_stand_in import LatePendings

    pendings = LatePendings(batches.try_summarize)
    monkeypatch.setattr(batches, "try_summarize", pendings)
    return pendings


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """All that is handed to a writer, in its order."""
    submitted: list[Record] = []
    submit = RunWriter.submit

    def spy(writer: RunWriter, *given: Record) -> None:
        submitted.extend(given)
        submit(writer, *given)

    monkeypatch.setattr(RunWriter, "submit", spy)
    return submitted
