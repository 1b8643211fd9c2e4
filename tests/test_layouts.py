"""Tensors of any layout against a contiguous copy, in memory order where they are dense; every kind of torch tensor."""

from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from contract import bits, bits_of, statistics
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from samples import DTYPES, STEADY, sample
from torch._subclasses.fake_tensor import FakeTensorMode

Array = np.ndarray[Any, np.dtype[Any]]


def in_order(x: Array) -> Array:
    """The elements in the order that the contract takes them in: memory order if dense, else C order."""
    strides = sorted((stride, extent) for stride, extent in zip(x.strides, x.shape, strict=True) if extent != 1)
    expected = x.itemsize
    for stride, extent in strides:
        if stride != expected:
            return np.ascontiguousarray(x).reshape(-1)
        expected *= extent
    return x.transpose(np.argsort([-abs(stride) for stride in x.strides], kind="stable")).reshape(-1)


def check(x: Array) -> None:
    s = tensometer.summarize(x)
    assert s.shape == x.shape
    assert bits_of(s) == bits(statistics(in_order(x)))


@st.composite
def views(draw: st.DrawFn) -> Array:
    """Slices with steps of any sign, permutations, broadcasts and misaligned starts of random arrays."""
    name = draw(st.sampled_from(["float32", "float64", "float16", "bfloat16", "int8", "uint64", "complex64", "bool"]))
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    shape[0] *= draw(st.sampled_from([1, 1, 40, 200]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    size = int(np.prod(shape))
    memory = np.zeros(size * DTYPES[name].itemsize + 8, np.uint8)
    offset = draw(st.integers(0, 8))
    x = memory[offset : offset + size * DTYPES[name].itemsize].view(DTYPES[name]).reshape(shape)
    x[...] = sample(rng, name, size).reshape(shape)
    x = x.transpose(draw(st.permutations(range(len(shape)))))
    cut = []
    for extent in x.shape:
        step = draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2]))
        first = draw(st.integers(0, extent))
        cut.append(slice(first, None, step) if draw(st.booleans()) else slice(None, None, step))
    x = x[tuple(cut)]
    if draw(st.booleans()):
        x = np.broadcast_to(x[..., None, :], (*x.shape[:-1], draw(st.integers(0, 3)), x.shape[-1]))
    return x


@STEADY
@given(views())
def test_views(x: Array) -> None:
    for isa in tensometer.isas():
        with tensometer.isa(isa):
            check(x)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_strided(name: str, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 3 * 70 * 60, "holes").reshape(3, 70, 60)
    for view in (x[:, ::2, 1:], x[::-1, :, ::-3], x.transpose(2, 0, 1), x[1], x[:, 5], x[..., 7], x[:, :0]):
        check(view)


def test_order_in_memory_for_dense_tensors(rng: np.random.Generator) -> None:
    """A transposed matrix has the bits of the matrix, so the same moments to the last bit; its fingerprint differs."""
    x = sample(rng, "float32", 300 * 70).reshape(300, 70)
    a, b = (tensometer.summarize(view, fingerprint=True, histogram=True) for view in (x, x.T))
    assert bits_of(a) == bits_of(b)
    assert a.histogram == b.histogram
    assert a.fingerprint != b.fingerprint
    assert (a.shape, b.shape) == ((300, 70), (70, 300))
    assert tensometer.summarize(np.asfortranarray(x), fingerprint=True).fingerprint != a.fingerprint
    assert tensometer.summarize(x.copy(), fingerprint=True).fingerprint == a.fingerprint


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1, 1), (5,)])
@pytest.mark.parametrize("name", DTYPES)
def test_scalars_and_empty_tensors(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x = sample(rng, name, int(np.prod(shape))).reshape(shape)
    check(x)
    if x.size == 0:
        s = tensometer.summarize(x, histogram=True)
        assert (s.count, s.sum, s.l1, s.l2, s.linf, s.zeros) == (0,) * 6
        assert all(np.isnan([s.min, s.max, s.mean, s.var, s.std, s.rms, s.abs_mean, s.zero_fraction, s.quantile(0.5)]))


def test_zero_strides_and_overlaps(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 5000)
    check(np.broadcast_to(x, (40, 5000)))
    check(np.broadcast_to(x[:3, None], (3, 5000)))
    check(as_strided(x, (4000, 1000), (4, 4)))
    assert tensometer.summarize(np.broadcast_to(np.float32(0.5), (10**6, 10**5))[:1000]).sum == 0.5e8


def test_read_only_and_far_apart(rng: np.random.Generator) -> None:
    x = sample(rng, "float64", 1 << 20)
    x.flags.writeable = False
    check(x)
    check(x[:: 1 << 14])
    check(x.reshape(1024, 1024)[::-1, ::128])


def numpy_of(tensor: torch.Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().resolve_conj().resolve_neg().numpy())


def test_torch_views(rng: np.random.Generator) -> None:
    x = torch.from_numpy(sample(rng, "float32", 4 * 6 * 10 * 12)).reshape(4, 6, 10, 12)
    views = (x, x[:, 1::2], x.permute(3, 1, 0, 2), x[0, 0].expand(5, 10, 12), x[..., ::5], x[:0], x[1, 2, 3, 4])
    for view in views:
        expected = bits(statistics(in_order(view.numpy())))
        for kind in (view, view.clone().requires_grad_() if view is x else view, torch.nn.Parameter(view)):
            assert bits_of(tensometer.summarize(kind)) == expected
    last = x.contiguous(memory_format=torch.channels_last)
    assert bits_of(tensometer.summarize(last)) == bits(statistics(in_order(last.numpy())))
    assert tensometer.summarize(last).shape == (4, 6, 10, 12)


def test_torch_results_of_a_graph() -> None:
    weight = torch.nn.Linear(30, 20).weight
    assert tensometer.summarize(weight * 2).l2 == pytest.approx(2 * tensometer.summarize(weight).l2, rel=1e-7)
    assert weight.grad is None


def test_torch_subclasses() -> None:
    class Tagged(torch.Tensor):
        pass

    x = torch.arange(100.0)
    assert tensometer.summarize(x.as_subclass(Tagged)) == tensometer.summarize(x)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_torch_lazy_views(dtype: torch.dtype) -> None:
    """Conjugates and negations that torch has only noted down."""
    z = torch.complex(torch.arange(1.0, 100), -torch.arange(1.0, 100)).to(dtype)
    assert tensometer.summarize(z.conj()) == tensometer.summarize(z)
    imaginary = z.conj().imag
    assert imaginary.is_neg()
    assert bits_of(tensometer.summarize(imaginary)) == bits(statistics(numpy_of(imaginary)))
    assert tensometer.summarize(imaginary).min == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls its sparse CSR support a beta
@pytest.mark.parametrize("layout", ["coo", "uncoalesced", "csr", "csc", "bsr", "bsc"])
@pytest.mark.parametrize("name", ["float32", "float64", "int64"])
def test_sparse(layout: str, name: str) -> None:
    dense = torch.zeros(60, 40, dtype=getattr(torch, name))
    dense[::6, ::4] = torch.arange(1, 101, dtype=dense.dtype).reshape(10, 10) - 50
    if layout == "uncoalesced":
        at = torch.tensor([[1, 1, 2], [3, 3, 0]])
        x = torch.sparse_coo_tensor(at, torch.tensor([5, -7, 4], dtype=dense.dtype), (60, 40))
        dense = x.to_dense()
    elif layout.startswith("bs"):
        x = getattr(dense, f"to_sparse_{layout}")((2, 4))
    else:
        x = dense.to_sparse() if layout == "coo" else getattr(dense, f"to_sparse_{layout}")()
    s, expected = tensometer.summarize(x, histogram=True), tensometer.summarize(dense, histogram=True)
    assert s.shape == (60, 40)
    for column in ("count", "zeros", "negatives", "min", "max", "linf", "nonfinite"):
        assert getattr(s, column) == getattr(expected, column), column
    for column in ("mean", "var", "l1", "l2", "sum"):  # merged with the zeros, which were elements there
        assert getattr(s, column) == pytest.approx(getattr(expected, column), rel=1e-14, abs=1e-14 * s.l1), column
    assert s.histogram == expected.histogram
    with pytest.raises(ValueError, match="x: is sparse, and a fingerprint is of dense tensors only"):
        tensometer.summarize(x, fingerprint=True)


def test_sparse_without_elements() -> None:
    s = tensometer.summarize(torch.zeros(7, 5).to_sparse())
    assert (s.count, s.zeros, s.min, s.max, s.mean, s.var) == (35, 35, 0, 0, 0, 0)


def test_tensors_without_memory() -> None:
    with pytest.raises(ValueError, match="x: lies on meta"):
        tensometer.summarize(torch.zeros(3, device="meta"))
    with FakeTensorMode():
        fake = torch.zeros(3)
    with pytest.raises(ValueError, match="x: "):
        tensometer.summarize(fake)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls nested tensors a prototype
def test_nested_tensors_are_refused() -> None:
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
        with pytest.raises(TypeError, match="x: layout nested cannot be summarized"):
            tensometer.summarize(nested)


def test_gradients_of_float16_negated() -> None:
    x = torch._neg_view(torch.arange(1.0, 9).to(torch.float16))
    assert tensometer.summarize(x).max == -1
