"""Streams whose pieces lie on a device, beside others on the host: the bits of the whole, wherever they are cut."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from fake_cuda import DTYPES, CudaArray, DLPackArray, Driver, failures_at_each_call, wild
from tensometer import Accumulator
from tensometer.tensors import RawTensor
from torch_stand_in import CudaTensor, to_device

Array = np.ndarray[Any, np.dtype[Any]]
BLOCK, FOLD = 4096, 64
CUTS = ([], [1], [BLOCK - 1, 2], [BLOCK, BLOCK], [5, BLOCK - 5, 2 * BLOCK], [0, 3 * BLOCK + 1, 0], [100, 100, 9000])
OPTIONS: tuple[dict[str, Any], ...] = (
    {"fingerprint": True},
    {"histogram": True, "fingerprint": True},
    {"histogram": "sampled", "resolution": 3},
)


def fed(driver: Driver, x: Array, cuts: list[int], **options: Any) -> Accumulator:
    """The elements of x in pieces of these sizes and the rest, every third of them in the host's memory."""
    stream, at = Accumulator(x.dtype.name, **options), 0
    for number, size in enumerate([*cuts, x.size]):
        piece = x[at : at + size]
        stream.update(piece if number % 3 == 2 else driver.array(piece))
        at = min(at + size, x.size)
        assert stream.count == at
    return stream


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_cut_anywhere(fake: Driver, rng: np.random.Generator, dtype: str) -> None:
    x = wild(rng, dtype, (4 * BLOCK + 77,))
    for options in OPTIONS:
        whole = tensometer.summarize(x, **options)
        for cuts in CUTS:
            assert fed(fake, x, cuts, **options).summary() == whole


@pytest.mark.parametrize(
    ("dtype", "code"),
    [("bfloat16", 4), ("float8_e4m3fn", 10), ("float8_e4m3fnuz", 11), ("float8_e5m2", 12), ("float8_e5m2fnuz", 13)],
)
def test_types_that_numpy_lacks(fake: Driver, rng: np.random.Generator, dtype: str, code: int) -> None:
    bits = rng.integers(0, 65536 if dtype == "bfloat16" else 256, 2 * BLOCK + 9)
    x = bits.astype(np.uint16 if dtype == "bfloat16" else np.uint8)
    whole = tensometer.summarize(RawTensor(x, dtype), histogram=True, fingerprint=True)
    for size in (100, BLOCK, 5000):
        stream = Accumulator(histogram=True, fingerprint=True).update(DLPackArray(fake, x[:size], code=code))
        assert stream.dtype == dtype
        # The rest as raw bits, as on the host.
        assert stream.update(fake.array(x[size:])).summary() == whole


def test_pieces_that_begin_amid_groups(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.standard_normal(150 * BLOCK + 5).astype(np.float32)
    for options in OPTIONS:
        whole = tensometer.summarize(x, **options)
        for cuts in ([BLOCK, FOLD * BLOCK], [3 * BLOCK + 1, 130 * BLOCK]):
            stream = fed(fake, x, cuts, **options)
            assert stream.summary() == whole
            assert pickle.loads(pickle.dumps(stream)).summary() == whole


def test_only_ends_are_brought(fake: Driver, rng: np.random.Generator) -> None:
    array = fake.array(rng.standard_normal(10 * BLOCK + 7).astype(np.float32))
    stream = Accumulator("float32").update(np.ones(5, np.float32))
    before = fake.count("bytes to the host"), fake.count("cuLaunchKernel")
    stream.update(array)
    assert fake.count("cuLaunchKernel") - before[1] == 2
    assert fake.count("bytes to the host") - before[0] < 4 * 2 * BLOCK + 9 * 200


def test_layouts(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.standard_normal((60, 50, 4)).astype(np.float32)
    for view in (x, x.transpose(2, 0, 1), x[:0]):
        assert Accumulator().update(fake.array(view)).summary() == Accumulator().update(view).summary()
    with pytest.raises(ValueError, match=r"^x: its elements lie apart on its device; pass a contiguous copy$"):
        Accumulator().update(fake.array(x[:, ::2]))

    class WithCopy(CudaArray):
        """As CuPy's arrays, whose copies are contiguous."""

        def copy(self) -> CudaArray:
            return fake.array(self.array.copy())

    for view in (x[:, ::2], x[::-1], x[..., 1]):
        stream = Accumulator().update(WithCopy(fake, view)).update(view)
        assert stream.summary() == Accumulator().update(view).update(view).summary()


def test_tensors_of_torch(device: Driver, rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.standard_normal((90, 200)).astype(np.float32))
    stream, expected = Accumulator(histogram=True), Accumulator(histogram=True)
    for shard in (x[:, :77], x[:, 77:], x.T, x.bfloat16()[:40].float(), x[::3, ::2]):
        stream.update(to_device(shard))
        expected.update(shard)
    assert stream.summary() == expected.summary()


class Sparse(torch.Tensor):
    """A sparse tensor whose values lie on the device; its own contiguous() is torch's, which raises."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    __dlpack_c_exchange_api__ = None
    is_cuda = True
    host: torch.Tensor
    device = property(lambda self: torch.device("cuda", 0))  # type: ignore[assignment]
    layout = property(lambda self: self.host.layout)  # type: ignore[assignment]
    shape = property(lambda self: self.host.shape)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> "Sparse":
        made: Sparse = torch.Tensor._make_subclass(cls, torch.zeros(()))  # type: ignore[assignment]
        made.host = host
        return made

    def detach(self) -> "Sparse":
        return self

    def coalesce(self) -> "Sparse":
        return self

    def numel(self) -> int:
        return self.host.numel()

    def values(self) -> torch.Tensor:
        return CudaTensor(self.host.values())

    def contiguous(self, *_: object, **__: object) -> torch.Tensor:  # type: ignore[override]
        return self.host.contiguous()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("step", [1, 2])
def test_sparse_tensors(device: Driver, rng: np.random.Generator, step: int) -> None:
    values = torch.from_numpy(rng.standard_normal(step * 5000).astype(np.float32))[::step]
    rows, columns = torch.tensor([0, 5000]), torch.arange(5000)
    for host in (
        torch.sparse_csr_tensor(rows, columns, values, (1, 9000), check_invariants=True),
        torch.sparse_coo_tensor(columns[None], values, (9000,), is_coalesced=True, check_invariants=True),
    ):
        found, expected = (Accumulator(histogram=True).update(one).update(one) for one in (Sparse(host), host))
        assert found.summary() == expected.summary()
        assert found.count == 18_000


def test_a_copy_that_is_none_is_not_taken(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.standard_normal((60, 50)).astype(np.float32)
    for shown in (None, lambda: None, lambda: fake.array(x[:3]), lambda: fake.array(x[:, ::2].astype(np.float64))):
        array = fake.array(x[:, ::2])
        array.copy = shown  # type: ignore[attr-defined]
        with pytest.raises((TypeError, ValueError), match=r"^x: "):
            Accumulator().update(array)
        array.contiguous = lambda: fake.array(x[:, ::2].copy())  # type: ignore[attr-defined]
        assert Accumulator().update(array).count == 1500


def test_threads_share_one(fake: Driver, rng: np.random.Generator) -> None:
    x = rng.integers(-9, 9, 5000).astype(np.int32)
    arrays, stream = [fake.array(x, stream=3 + number) for number in range(4)], Accumulator(histogram=True)
    stop = threading.Event()

    def feed(array: CudaArray) -> None:
        for _ in range(20):
            stream.update(array)

    def look() -> int:
        seen = 0
        while not stop.is_set():
            seen, before = stream.count, seen
            assert seen >= before
            assert seen == 0 or stream.summary().count >= seen
        return seen

    with ThreadPoolExecutor(5) as pool:
        looking = pool.submit(look)
        for done in [pool.submit(feed, array) for array in arrays]:
            done.result()
        stop.set()
        looking.result()
    assert stream.count == 80 * x.size
    once, found = tensometer.summarize(x, histogram=True), stream.summary()
    assert (found.zeros, found.negatives, found.min, found.max) == (80 * once.zeros, 80 * once.negatives, -9, 8)


def test_what_is_refused_changes_nothing(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2 owner=1")
    fake.reset()
    elsewhere = DLPackArray(fake, np.ones(9000, np.float32), device=0)
    fresh, stream = Accumulator(), Accumulator("float32", histogram=True).update(np.arange(5000, dtype=np.float32))
    before = pickle.dumps(stream)
    for one in (fresh, stream):
        with pytest.raises(ValueError, match=r"^x: is in the memory of CUDA device 1, not of device 0$"):
            one.update(elsewhere)
    with pytest.raises(ValueError, match=r"^x: has dtype float64, this accumulator float32$"):
        stream.update(DLPackArray(fake, np.ones(9000), device=1))
    assert pickle.dumps(stream) == before
    assert (fresh.dtype, fresh.count) == (None, 0)


def test_every_driver_call_may_fail(fake_library: Path) -> None:
    """Whichever does, the piece is added as a whole or not at all, and those in the host's memory still are."""
    begin = """
import pickle
from tensometer import Accumulator
stream, expected = Accumulator(histogram=True), Accumulator(histogram=True)
"""
    tried = """
before = pickle.dumps(stream)
try:
    stream.update(array)
    expected.update(x)
except RuntimeError:
    assert pickle.dumps(stream) == before
    raise
finally:
    stream.update(x[:7])
    expected.update(x[:7])
    assert stream.summary() == expected.summary()
"""
    failures = failures_at_each_call(fake_library, begin, tried)
    assert failures[:20] == [2] * 20
    assert failures[-1] == 0
