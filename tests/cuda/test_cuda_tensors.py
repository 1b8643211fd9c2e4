"""Tensors on a device through the public names: results are the CPU's, and nothing is copied to the host for them."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensometer
from fake_cuda import (
    DTYPES,
    FAKE_TENSOR,
    CudaArray,
    DLPackArray,
    Driver,
    ExchangedArray,
    alone,
    failures_at_each_call,
    wild,
)
from tensometer.tensors import RawTensor


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_is_as_on_the_cpu(fake: Driver, rng: np.random.Generator, dtype: str) -> None:
    for shape in ((5000,), (3, 7), (1,), (0, 4), ()):
        x = wild(rng, dtype, shape)
        for options in ({}, {"histogram": True}, {"histogram": "sampled", "resolution": 3}, {"fingerprint": True}):
            assert tensometer.summarize(fake.array(x), **options) == tensometer.summarize(x, **options)


@pytest.mark.parametrize(
    ("dtype", "code"),
    [("bfloat16", 4), ("float8_e4m3fn", 10), ("float8_e4m3fnuz", 11), ("float8_e5m2", 12), ("float8_e5m2fnuz", 13)],
)
def test_types_that_numpy_lacks(fake: Driver, rng: np.random.Generator, dtype: str, code: int) -> None:
    for shape in ((5000,), (3, 7), (1,), (0, 4), ()):
        bits = rng.integers(0, 256, shape, dtype=np.uint8)
        if dtype == "bfloat16":
            bits = rng.integers(0, 65536, shape, dtype=np.uint16)
        array, expected = DLPackArray(fake, np.asarray(bits), code=code), RawTensor(np.asarray(bits), dtype)
        for options in ({}, {"histogram": True}, {"histogram": "sampled", "resolution": 3}, {"fingerprint": True}):
            assert tensometer.summarize(array, **options) == tensometer.summarize(expected, **options)


def test_layouts_are_read_where_they_lie(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.standard_normal((6, 5, 4, 3, 2)).astype(np.float32)
    for view in (x.T, x[::2], x[:, ::-1], x[..., 1], np.broadcast_to(x[:1, :1, :1, :1], (3, 3, 3, 3, 2)), x[1:, 1:3]):
        expected = tensometer.summarize(view, fingerprint=True)
        assert tensometer.summarize(fake.array(view), fingerprint=True) == expected
    with pytest.raises(ValueError, match=r"x: its strides make more than 4 dimensions of it; pass a contiguous copy"):
        tensometer.summarize(fake.array(np.zeros((4,) * 5)[::2, ::2, ::2, ::2, ::2]))


def test_tables_units_and_devices_mix(fake: Driver, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((40, 300)).astype(np.float32), rng.integers(-5, 5, 7)
    named = {"device": fake.array(x), "host": x, "other stream": fake.array(y, stream=77), "empty": fake.array(x[:0])}
    table = tensometer.summarize_many(named, histogram=True)
    expected = tensometer.summarize_many({"a": x, "b": x, "c": y, "d": x[:0]}, histogram=True)
    assert table.names == list(named)
    assert list(table) == list(expected)
    for dim in (0, 1, -1):
        units = tensometer.summarize_units(fake.array(x), dim, histogram=True)
        assert list(units) == list(tensometer.summarize_units(x, dim, histogram=True))


def test_each_device_reduces_its_own(fake: Driver, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    x = rng.standard_normal((4, 5000)).astype(np.float32)
    arrays = []
    for device, row in zip((0, 1, 0, 1), x, strict=True):
        monkeypatch.setenv("TENSOMETER_FAKE", f"devices=2 owner={device}")
        fake.reset()
        arrays.append(fake.array(row))
    assert list(tensometer.summarize_many(arrays)) == list(tensometer.summarize_many(x))
    assert fake.count("cuLaunchKernel") == 2 * 2
    array = DLPackArray(fake, x[0], device=0)
    words = "is in the memory of CUDA device 1, not of device 0"
    for call, name in (
        (lambda: tensometer.summarize(array), "x"),
        (lambda: tensometer.summarize_many([x, arrays[0], array]), "tensors[2]"),
        (lambda: tensometer.summarize_many({"here": arrays[0], "there": array}), "tensors['there']"),
        (lambda: tensometer.summarize_async(array), "x"),
        (lambda: tensometer.summarize_async([x, arrays[1], array]), "tensors[2]"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(name)}: {words}$"):
            call()


def test_more_than_a_submit_takes(fake: Driver, rng: np.random.Generator) -> None:
    """Of fine histograms only so many have room at a time."""
    x = rng.standard_normal((150, 20)).astype(np.float32)
    arrays = [fake.array(row) for row in x]
    assert list(tensometer.summarize_many(arrays, histogram=True)) == list(tensometer.summarize_many(x, histogram=True))
    assert fake.count("cuLaunchKernel") == 2 * 3


def test_only_results_are_copied_and_two_kernels_launched(fake: Driver, rng: np.random.Generator) -> None:
    arrays = [fake.array(rng.standard_normal(n).astype(np.float32)) for n in (10, 9000, 70000)]
    tensometer.summarize_many(arrays)
    assert fake.count("cuLaunchKernel") == 2
    assert fake.count("cuMemcpyDtoHAsync_v2") == 1


def test_a_thousand_tensors_are_one_launch_and_less_than_a_megabyte(fake: Driver, rng: np.random.Generator) -> None:
    arrays = [fake.array(rng.standard_normal(100).astype(np.float32)) for _ in range(1000)]
    names = [""] * len(arrays)
    for options, most in (({}, 0.15e6), ({"histogram": True, "resolution": 3}, 0.35e6)):
        tables = fake.count("cuMemcpyHtoDAsync_v2")
        for _ in range(3):
            launches, copied = fake.count("cuLaunchKernel"), fake.count("bytes to the host")
            tensometer._core.try_summarize(arrays, names, **options).result()
            assert fake.count("cuLaunchKernel") - launches == 2
            assert fake.count("bytes to the host") - copied < most
        assert fake.count("cuMemcpyHtoDAsync_v2") - tables == 1


@pytest.mark.parametrize(("dtype", "count"), [("float32", 1 << 18), ("float32", 1 << 20), ("uint8", 1 << 14)])
def test_a_large_tensor_comes_in_less_than_a_kilobyte(
    fake: Driver, rng: np.random.Generator, dtype: str, count: int
) -> None:
    x = rng.standard_normal(count).astype(dtype) if dtype == "float32" else rng.integers(0, 256, count).astype(dtype)
    array, copied = fake.array(x), fake.count("bytes to the host")
    found = tensometer.summarize(array, histogram=True, resolution=3)
    assert fake.count("bytes to the host") - copied < 1000
    assert found == tensometer.summarize(x, histogram=True, resolution=3)


def test_bins_that_lie_apart_have_room(fake: Driver) -> None:
    """Every second one: as many words as there can be, of bytes, of a histogram beside them, and of pieces."""
    apart = np.array([i for i in range(256) if i % 2 == 0 or i % 32 == 31], np.uint8)
    patterns = np.array([i for i in range(4096) if i % 2 == 0 or i % 32 == 31], np.uint32) << 20
    floats = patterns.view(np.float32)
    table = [tensometer.summarize(x, histogram=True, resolution=3) for x in (apart, floats)]
    both = tensometer.summarize_many([fake.array(apart), fake.array(floats)], histogram=True, resolution=3)
    assert list(both) == table
    assert tensometer.summarize(fake.array(floats), histogram=True, resolution=3) == table[1]
    many = np.resize(apart, 2 * 4096)
    accumulated = tensometer.Accumulator().update(fake.array(many))
    assert accumulated.summary() == tensometer.Accumulator().update(many).summary()


@pytest.mark.parametrize(("count", "submits"), [(600, 3), (2500, 8)])
def test_fine_histograms_of_many_tensors_are_several_submits(
    fake: Driver, rng: np.random.Generator, count: int, submits: int
) -> None:
    """Each needs 256 KB of counters on the device, which would else be as much as a model; but there are few slots."""
    x = rng.standard_normal((count, 10)).astype(np.float32)
    arrays = [fake.array(row) for row in x]
    table = tensometer._core.try_summarize(arrays, [""] * count, histogram=True, resolution=6).result()
    assert fake.count("cuLaunchKernel") == 2 * submits
    assert list(table) == list(tensometer.summarize_many(x, histogram=True, resolution=6))


def test_pending_brings_what_the_call_found(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.standard_normal(5000).astype(np.float32)
    one = tensometer.summarize_async(fake.array(x), histogram=True)
    many = tensometer.summarize_async([fake.array(x), x])
    named = tensometer.summarize_async({"w": fake.array(x)})
    assert isinstance(one, tensometer.Pending)
    assert one.result() == one.result() == tensometer.summarize(x, histogram=True)
    assert list(many.result()) == [tensometer.summarize(x)] * 2
    assert named.result().names == ["w"]
    assert many.ready()
    assert tensometer.summarize_async(x).ready()


def test_pending_is_not_ready_before_the_device_is(
    fake: Driver, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2 late=0")
    fake.reset()
    x = rng.standard_normal(5000).astype(np.float32)
    pending = tensometer.summarize_async(fake.array(x))
    assert not pending.ready()
    assert fake.count("cuEventSynchronize") == 0
    fake.finish()
    assert pending.ready()
    assert fake.count("cuEventSynchronize") == 0
    assert pending.result() == tensometer.summarize(x)


def test_more_pending_than_slots(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.standard_normal((20, 100)).astype(np.float32)
    pending = [tensometer.summarize_async(fake.array(row)) for row in x]
    del pending[3:7]  # nobody asks for those
    expected = [tensometer.summarize(row) for i, row in enumerate(x) if not 3 <= i < 7]
    assert [p.result() for p in reversed(pending)] == expected[::-1]


def test_a_pending_keeps_its_tensor(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.standard_normal(100).astype(np.float32)
    before = fake.count("memory")
    pending = tensometer.summarize_async(fake.array(x))
    assert fake.count("memory") > before
    assert pending.result() == tensometer.summarize(x)
    del pending


def test_dlpack_waits_on_the_legacy_stream(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.standard_normal((30, 20)).astype(np.float32)
    array = DLPackArray(fake, x.T)
    assert tensometer.summarize(array, fingerprint=True) == tensometer.summarize(x.T, fingerprint=True)
    assert array.streams == [1]


def test_the_exchange_interface_brings_its_stream(
    fake: Driver, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = rng.standard_normal((30, 20)).astype(np.float32)
    array = ExchangedArray(fake, x[:, ::2])
    assert tensometer.summarize(array, fingerprint=True) == tensometer.summarize(x[:, ::2], fingerprint=True)
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2 capturing=7")
    fake.reset()
    with pytest.raises(RuntimeError, match="is being captured into a graph; take statistics outside of the capture"):
        tensometer.summarize(array)
    assert tensometer.summarize(fake.array(x, stream=8)) == tensometer.summarize(x)


def test_what_waits_for_its_elements_is_asked_to(fake: Driver, rng: np.random.Generator) -> None:
    """As arrays of JAX: their array interface names no stream, and is there before they are."""

    class Both(DLPackArray):
        @property
        def __cuda_array_interface__(self) -> dict[str, object]:
            return {**self._inner.__cuda_array_interface__, "stream": None, "version": 2}

    x = rng.standard_normal(5000).astype(np.float32)
    array = Both(fake, x)
    assert tensometer.summarize(array) == tensometer.summarize(x)
    assert array.streams == [1]


def test_a_stream_of_another_device_is_no_fault_of_this_one(
    fake: Driver, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CuPy tells the stream of the current device, wherever the array lies."""
    x = rng.standard_normal(500).astype(np.float32)
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2 foreign=77")
    fake.reset()
    for call in (tensometer.summarize, tensometer.Accumulator().update, lambda one: tensometer.histogram(one, 4)):
        with pytest.raises(ValueError, match="the stream is none of device 0, on which the tensor lies"):
            call(fake.array(x, stream=77))
    assert tensometer.summarize(fake.array(x, stream=78)) == tensometer.summarize(x)


def test_no_driver_is_opened_for_the_cpu(fake_library: Path) -> None:
    code = """
import numpy as np, tensometer
tensometer.summarize(np.ones(5)); tensometer.summarize_many([np.ones(5)]); tensometer.summarize_async(np.ones(5))
print("libcuda" in open("/proc/self/maps").read())
"""
    assert alone(code, TENSOMETER_LIBCUDA=str(fake_library)) == "False"


def test_without_a_driver_the_reason_is_told() -> None:
    code = """
import tensometer
class Array:
    __cuda_array_interface__ = {"shape": (4,), "typestr": "<f4", "data": (4096, False), "version": 3}
try:
    tensometer.summarize(Array())
except RuntimeError as error:
    print(error)
"""
    assert alone(code, TENSOMETER_LIBCUDA="/nowhere/libcuda.so.1").startswith("cuda: no driver: /nowhere/libcuda.so.1")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("devices=0", "cuInit failed: CUDA_ERROR_NO_DEVICE"),
        ("fail_at=30 error=719", "most often comes from a kernel of the program's own"),
    ],
)
def test_a_device_that_fails_is_a_runtime_error(fake_library: Path, settings: str, words: str) -> None:
    code = f"""{FAKE_TENSOR}
for _ in range(3):
    try:
        print(tensometer.summarize(array) == tensometer.summarize(x))
    except RuntimeError as error:
        print("RuntimeError:", error)
print(tensometer.summarize(x).count)
"""
    told = alone(code, TENSOMETER_LIBCUDA=str(fake_library), TENSOMETER_FAKE=settings)
    assert words in told
    assert told.endswith("\n5000")


def test_without_kernels_the_reason_is_told(fake_library: Path, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"no image at all")
    code = f"{FAKE_TENSOR}\ntry:\n    tensometer.summarize(array)\nexcept RuntimeError as error:\n    print(error)"
    told = alone(code, TENSOMETER_LIBCUDA=str(fake_library), TENSOMETER_CUDA_IMAGE=str(tmp_path / "image"))
    assert "cuModuleLoadData failed: CUDA_ERROR_INVALID_IMAGE" in told


def test_every_driver_call_may_fail(fake_library: Path) -> None:
    """Whichever does, the results before are right, what follows is told, and nothing hangs or dies."""
    tried = """
pending = tensometer.summarize_async(array, histogram=True)
pending.ready()
assert pending.result() == tensometer.summarize(x, histogram=True)
"""
    failures = failures_at_each_call(fake_library, "", tried)
    assert failures[:20] == [2] * 20
    assert failures[-1] == 0


def test_a_forked_child_is_told(fake_library: Path) -> None:
    code = f"""{FAKE_TENSOR}
tensometer.summarize(array)
pending = tensometer.summarize_async(array)
sys.stdout.flush()
if os.fork() == 0:
    for call in (lambda: tensometer.summarize(array), pending.ready, pending.result):
        try:
            call()
        except RuntimeError as error:
            print("does not survive a fork" in str(error))
    del pending
    print(tensometer.summarize(x).count, flush=True)
    os._exit(0)
os.wait()
print(pending.result() == tensometer.summarize(x))
"""
    told = alone(code, TENSOMETER_LIBCUDA=str(fake_library))
    assert told.split() == ["True"] * 3 + ["5000", "True"]


def test_threads_share_a_device(fake: Driver, rng: np.random.Generator) -> None:
    from concurrent.futures import ThreadPoolExecutor

    x = rng.standard_normal((40, 3000)).astype(np.float32)
    arrays = [fake.array(row) for row in x]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda array: tensometer.summarize(array, histogram=True), arrays))
    assert found == [tensometer.summarize(row, histogram=True) for row in x]


def test_streams_have_an_order(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.standard_normal((6, 3000)).astype(np.float32)
    arrays: list[CudaArray] = [fake.array(row, stream=3 + i % 2) for i, row in enumerate(x)]
    assert list(tensometer.summarize_many(arrays)) == list(tensometer.summarize_many(x))
