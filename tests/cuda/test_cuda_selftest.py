"""The self-test over the fake driver: it passes there, and it tells a wrong result, which tensor's, and what of it."""

import ctypes
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from fake_cuda import CudaArray, DLPackArray, Driver
from tensometer.cuda import devices, samples, selftest
from tensometer.cuda.samples import Sample

# DLPack's codes of what NumPy lacks.
CODES = {"bfloat16": 4, "float8_e4m3fn": 10, "float8_e4m3fnuz": 11, "float8_e5m2": 12, "float8_e5m2fnuz": 13}
LEGACY = 1
SMALL = selftest.Sizes(tensors=57, batch=20, largest=9000, rows=4, large=5000)


class FakeDevice:
    """Memory of the fake driver, in order of its streams."""

    def __init__(self, driver: Driver, library: Path) -> None:
        self._driver, self._stream = driver, LEGACY
        self._library = ctypes.CDLL(str(library))
        self.uploaded: list[Sample] = []

    def describe(self) -> str:
        return "Fake GPU"

    def upload(self, sample: Sample) -> Any:
        self.uploaded.append(sample)
        sample = self.received(sample)
        if sample.dtype in CODES:
            return DLPackArray(self._driver, sample.view, code=CODES[sample.dtype])
        return Current(self, CudaArray(self._driver, sample.view))

    def received(self, sample: Sample) -> Sample:
        """What arrives on the device."""
        return sample

    @contextmanager
    def stream(self, number: int) -> Iterator[None]:
        self._stream = LEGACY if number == 0 else 100 + number
        yield
        self._stream = LEGACY

    def overwrite(self, tensor: Any, value: int) -> None:
        array, stream = (tensor.inner, self._stream) if isinstance(tensor, Current) else (tensor._inner, LEGACY)
        if not array.array.size:
            return
        low, high = np.lib.array_utils.byte_bounds(array.array)
        context = ctypes.c_void_p()
        self._library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
        self._library.cuCtxPushCurrent_v2(context)
        size = ctypes.c_size_t(high - low)
        pointer = ctypes.c_uint64(array._pointer)
        assert self._library.cuMemsetD8Async(pointer, ctypes.c_ubyte(value), size, ctypes.c_void_p(stream)) == 0
        self._library.cuCtxPopCurrent_v2(ctypes.byref(context))
        self._library.cuDevicePrimaryCtxRelease_v2(0)

    def wait(self) -> None:
        self._driver.finish()


class Current:
    """An array whose stream is the device's current one, as torch's is."""

    def __init__(self, device: FakeDevice, inner: CudaArray) -> None:
        self._device, self.inner = device, inner

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {**self.inner.__cuda_array_interface__, "stream": self._device._stream}


@pytest.fixture
def device(fake: Driver, fake_library: Path) -> FakeDevice:
    return FakeDevice(fake, fake_library)


def of(check: Any) -> Any:
    return pytest.param(check, id=check.__name__)


@pytest.mark.parametrize("check", [of(check) for check in selftest.CHECKS])
def test_it_passes(device: FakeDevice, check: Any) -> None:
    passed, line = selftest.run(device, 3, SMALL, [check])
    assert passed, line


class OneBitDevice(FakeDevice):
    """The sign of one element of one tensor arrives turned."""

    def __init__(self, driver: Driver, library: Path, which: int) -> None:
        super().__init__(driver, library)
        self._which = which

    def received(self, sample: Sample) -> Sample:
        if len(self.uploaded) - 1 != self._which:
            return sample
        data = sample.data.copy()
        data[sample.offset + sample.view.itemsize - 1] ^= 0x80
        return sample.over(data, sample.name)


@pytest.mark.parametrize(
    ("check", "which", "statistic"),
    [
        (selftest.bit_patterns, 1, "all statistics agree, the histograms do not"),  # the first element is a zero
        (selftest.random_tensors, 20, ""),
        (selftest.order_of_streams, 0, ""),
        (selftest.special_positions, 3, "negatives is "),
        (selftest.large_tensors, 1, "negatives"),
    ],
)
def test_one_wrong_bit_is_told(fake: Driver, fake_library: Path, check: Any, which: int, statistic: str) -> None:
    device = OneBitDevice(fake, fake_library, which)
    passed, line = selftest.run(device, 3, SMALL, [check])
    assert not passed
    assert f"first difference: {device.uploaded[which].name}" in line
    assert statistic in line


def test_unordered_streams_are_told(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that do not wait for what was submitted before them, as if the stream were another."""
    inner = FakeDevice.overwrite

    def elsewhere(self: FakeDevice, tensor: Any, value: int) -> None:
        self._stream += 1000
        inner(self, tensor, value)
        self._stream -= 1000

    monkeypatch.setattr(FakeDevice, "overwrite", elsewhere)
    passed, line = selftest.run(device, 3, SMALL, [selftest.order_of_streams])
    assert not passed
    assert "summarize_async between writes" in line


def test_a_device_that_fails_is_told(device: FakeDevice) -> None:
    def failing(test: selftest.Test) -> None:
        raise RuntimeError("cuda: cuLaunchKernel failed:\nCUDA_ERROR_ILLEGAL_ADDRESS")

    passed, line = selftest.run(device, 3, SMALL, [selftest.order_of_streams, failing])
    assert not passed
    told = "failing: RuntimeError: cuda: cuLaunchKernel failed: CUDA_ERROR_ILLEGAL_ADDRESS"
    assert line.endswith(f": 0 tensors, 36 comparisons, 0 differ; {told}")


def test_the_line_says_of_what(device: FakeDevice) -> None:
    passed, line = selftest.run(device, 3, SMALL, [selftest.large_tensors])
    assert passed
    images = " ".join(tensometer.cuda.available().architectures)
    assert line == (
        f"tensometer {tensometer.__version__} selftest: PASS; Fake GPU, kernels {images}, seed 3: "
        "19 tensors, 76 comparisons, 0 differ"
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_a_terminal_sees_progress(device: FakeDevice, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    selftest.run(device, 3, SMALL, [selftest.order_of_streams])
    seen = stream.getvalue()
    assert ("0 tensors, 36 comparisons, 0 differ: order of streams" in seen) is stream.isatty()
    assert seen.endswith("\r\x1b[K") is stream.isatty()


def test_samples_are_told_by_seed_and_number() -> None:
    one, same, other = (samples.sample(seed, 40, 9000) for seed in (1, 1, 2))
    assert one.name == same.name
    assert one.data.tobytes() == same.data.tobytes()
    assert one.data.tobytes() != other.data.tobytes()


def test_samples_are_of_every_kind() -> None:
    some = [samples.sample(0, number, 9000) for number in range(1000)]
    assert {one.dtype for one in some} == set(tensometer.dtypes())
    by_layout = {one.name.split(", ")[1] for one in some}
    assert by_layout >= {"flat", "rows", "transposed", "permuted", "every second", "cut", "one column", "repeated"}
    assert by_layout >= {"empty", "reversed", "reversed rows"}
    assert {one.name.split(", ")[-2] for one in some} == {"bits", "ordinary", "special"}
    assert {one.offset % 16 for one in some} == set(range(16))
    assert {1, 2, 3, 5, 4095, 4097} & {one.view.size for one in some}
    assert min(one.view.size for one in some) == 0
    for one in some:
        assert one.view.base is not None
        assert one.over(one.data, "the same").view.tobytes() == one.view.tobytes()


@pytest.mark.parametrize("dtype", tensometer.dtypes())
def test_special_values_stand_everywhere(dtype: str) -> None:
    for extremes, values in ((False, samples.special_values(dtype)), (True, samples.extreme_values(dtype))):
        matrix = samples.positions(0, dtype, 4096, extremes).view
        assert matrix.shape == (4096, 4096)
        for i, value in enumerate(values):
            found = matrix[np.arange(4096), (np.arange(4096) + 577 * i) % 4096]
            assert found.tobytes() == np.full(4096, value).tobytes()


def test_extremes_are_what_the_engine_says(fake: Driver) -> None:
    """The tables of bits for what NumPy lacks, against the core and the largest numbers of the formats."""
    largest = {"bfloat16": 2.0**127 * (2 - 2**-7), "float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}
    largest |= {"float8_e4m3fnuz": 240.0, "float8_e5m2fnuz": 57344.0}
    for dtype, value in largest.items():
        row = tensometer.summarize(samples.dense("extremes", dtype, samples.extreme_values(dtype)).host())
        assert (row.min, row.max) == (-value, value)
        special = tensometer.summarize(samples.dense("special", dtype, samples.special_values(dtype)).host())
        assert (special.min, special.max) == (-value, value)
        assert special.nan == (1 if "fnuz" in dtype else 2)
        infinities = 0 if dtype.startswith("float8_e4") or "fnuz" in dtype else 1
        assert (special.posinf, special.neginf) == (infinities, infinities)
        assert special.zeros == (1 if "fnuz" in dtype else 2)


def test_memory_of_torch_is_shown_as_it_is(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchDevice over CPU memory that the driver takes for the device's: views, array interfaces, overwriting."""
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2 adopt=1")
    fake.reset()
    device = devices.TorchDevice("cpu")
    some = [samples.sample(5, number, 9000) for number in range(57)]
    uploaded = [device.upload(one) for one in some]
    of_torch = [isinstance(tensor, torch.Tensor) for tensor in uploaded]
    assert 15 < sum(of_torch) < 45
    launches = fake.count("cuLaunchKernel")
    for value in (None, 1, 0):
        for one, tensor in zip(some, uploaded, strict=True):
            expected = one if value is None else one.filled(value)
            if value is not None:
                device.overwrite(tensor, value)
            found = tensometer.summarize(tensor, fingerprint=True)
            assert found == tensometer.summarize(expected.host(), fingerprint=True), expected.name
    assert fake.count("cuLaunchKernel") > launches
    passed, line = selftest.run(device, 4, SMALL, [selftest.pieces])
    assert passed, line


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\nGCC version:  gcc 12.2.0",
            "550.54.14",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", "580.65.06"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_driver_is_told_where_it_is_known(tmp_path: Path, text: str | None, version: str) -> None:
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert devices.driver_version(tmp_path / "version") == version
