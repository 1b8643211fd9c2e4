"""Tensors that a run keeps whole."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensometer
import torch
from samples import DTYPES, sample
from tensometer import Monitor, open_run
from tensometer.store import SegmentError, TensorKey
from tensometer.store.raw import decode_raw, encode_raw
from torch import nn


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, rng: np.random.Generator) -> None:
    x = sample(rng, dtype, 60, "normal").reshape(3, 4, 5)
    key = TensorKey("x", "custom", dtype, x.shape)
    found = decode_raw(encode_raw(key, x.tobytes()), "x")
    assert (found.shape, found.tobytes()) == (x.shape, x.tobytes())
    assert found.dtype == x.dtype


def test_what_a_monitor_keeps(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3, dtype=torch.bfloat16))
    settings = {"weights": {"save": "raw"}, "custom": {"save": "raw", "include": "keep"}}
    with Monitor(tmp_path, every=2, strict=True, collections=settings) as monitor:
        monitor.attach(model)
        for step in range(3):
            monitor.record("keep", np.arange(6.0).reshape(2, 3)[:, ::-1] + step)
            monitor.record("other", np.ones(2))
            monitor.step()
    run = open_run(tmp_path)
    assert run.tensor("keep", 2).tolist() == [[4, 3, 2], [7, 6, 5]]
    weight = run.tensor("0.weight", 0)
    assert weight.dtype == ml_dtypes.bfloat16
    assert weight.astype(np.float32).tolist() == model[0].weight.float().tolist()
    assert run.series("keep")["max"].tolist() == [5, 7]
    with pytest.raises(KeyError, match="'keep' was not kept whole at step 1; it was at steps 0, 2"):
        run.tensor("keep", 1)
    with pytest.raises(KeyError, match=r"'kept' was not kept whole; the nearest are keep"):
        run.tensor("kept", 0)
    with pytest.raises(KeyError, match="collection: 'costum' is not in the run; the nearest are custom"):
        run.tensor("keep", 0, collection="costum")
    with Monitor(tmp_path, every=1, collections=settings) as monitor:
        monitor.record("keep", np.zeros(1))
        monitor.step()
    run.refresh()
    assert run.tensor("keep", 3).tolist() == [0]
    assert run.tensor("keep", 0).shape == (2, 3)


@pytest.mark.parametrize("sparse", [False, True])
def test_tensors_of_torch(tmp_path: Path, sparse: bool) -> None:
    x = torch.arange(12.0).reshape(3, 4).t()
    with Monitor(tmp_path, every=1, strict=True, collections={"custom": {"save": "raw"}}) as monitor:
        monitor.record("x", x.to_sparse() if sparse else x)
        monitor.step()
    assert open_run(tmp_path).tensor("x", 0).tolist() == x.tolist()


def test_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    key = TensorKey("x", "custom", "bfloat16", (2,))
    found = decode_raw(encode_raw(key, np.array([0x3F80, 0x4000], np.uint16).tobytes()), "x")
    assert tensometer.summarize(found).sum == 3


def test_every_byte_flipped_and_every_truncation() -> None:
    x = np.arange(50, dtype=np.float32)
    data = encode_raw(TensorKey("x", "custom", "float32", (5, 10)), x.tobytes())
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        try:
            found = decode_raw(bytes(damaged), "x")
        except SegmentError:
            continue
        assert found.tolist() == x.reshape(5, 10).tolist()
    for at in range(len(data)):
        with pytest.raises(SegmentError, match=r"^x\.tmz: "):
            decode_raw(data[:at], "x.tmz")


def test_what_cannot_be_kept(tmp_path: Path) -> None:
    writer = tensometer.store.RunWriter(tmp_path)
    with pytest.raises(ValueError, match=r"data: 5 bytes for shape \[2\] of float32"):
        writer.raw(0, 0.0, "train", TensorKey("x", "custom", "float32", (2,)), b"12345")
    with pytest.raises(ValueError, match="dtype: float128 cannot be kept raw"):
        writer.raw(0, 0.0, "train", TensorKey("x", "custom", "float128", (2,)), b"12345")
    writer.close()


def test_what_does_not_fit_is_dropped(tmp_path: Path) -> None:
    writer = tensometer.store.RunWriter(tmp_path, queue_bytes=6000, flush_seconds=60)
    for step in range(3):
        writer.raw(step, 0.0, "train", TensorKey("x", "custom", "uint8", (4000,)), bytes(4000))
    writer.close()
    assert writer.dropped == 2
    run = open_run(tmp_path)
    assert [event.step for event in run.events("raw")] == [0]
    assert run.tensor("x", 0).tolist() == [0] * 4000
