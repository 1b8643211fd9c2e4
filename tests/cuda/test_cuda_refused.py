"""What cannot be read on a device is refused by the name of the argument, and takes nothing with it."""

from collections.abc import Callable

import numpy as np
import pytest
import tensometer
from fake_cuda import DLPackArray, Driver


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (2,), "strides": (1, 1)}, "1 dimensions and 2 strides"),
        ({"typestr": "|O"}, "cannot be"),
        ({"data": None}, "cannot be read"),
        ({"data": (4096, False)}, "not in the memory of a CUDA device"),
        ({"mask": 1}, "masked"),
        ({"typestr": ">f4"}, "other byte order"),
        ({"typestr": "foo"}, "cannot be read"),
        ({"stream": -1}, "the stream is -1"),
        ({"data": (-4096, False)}, "the pointer is -4096"),
        ({"shape": (1 << 40, 1 << 40)}, "the shape is"),
        ({"shape": (-4,)}, "the shape is"),
        ({"shape": (0, 1 << 70)}, "the shape is"),
        ({"strides": (1 << 62,)}, "the strides are"),
        ({"strides": (4.5,)}, "cannot be read"),
        ({"data": (float("inf"), False)}, "cannot be read"),
    ],
)
def test_wrong_interfaces_are_named(fake: Driver, change: dict[str, object], words: str) -> None:
    array = fake.array(np.ones(4, np.float32))
    array.__cuda_array_interface__.update(change)  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        tensometer.summarize(array)
    assert str(caught.value).startswith("x: ")


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (tensometer.summarize, "x"),
        (tensometer.summarize_units, "x"),
        (lambda x: tensometer.summarize_async(x).result(), "x"),
        (lambda x: tensometer.histogram(x, 4), "x"),
        (lambda x: tensometer.compare(x, x), "old"),
        (lambda x: tensometer.summarize_many([x]), "tensors[0]"),
        (lambda x: tensometer.summarize_many({"w": x}), "tensors['w']"),
    ],
)
def test_a_tensor_that_lies_elsewhere_is_named_as_in_the_call(
    fake: Driver, monkeypatch: pytest.MonkeyPatch, call: Callable[[object], object], argument: str
) -> None:
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2 owner=1")
    fake.reset()
    elsewhere = DLPackArray(fake, np.ones((2, 2), np.float32), device=0)
    with pytest.raises(ValueError, match="is in the memory of CUDA device 1, not of device 0") as caught:
        call(elsewhere)
    assert str(caught.value).startswith(f"{argument}: is in")


def test_what_cannot_be_read_is_left_out_and_the_others_are_read_once(fake: Driver) -> None:
    good = [DLPackArray(fake, np.full(9, value, np.float32)) for value in range(5)]
    given = [good[0], object(), *good[1:3], b"", np.array(["text"]), *good[3:]]
    pending = tensometer._core.try_summarize(given, list("abcdefgh"))
    assert [len(one.streams) for one in good] == [1] * 5
    assert [(at, str(error).split(":")[0], type(error)) for at, error in pending.refused] == [
        (1, "b", TypeError),
        (5, "f", TypeError),
    ]
    table = pending.result()
    assert [one.max for one in table if one.count] == [0, 1, 2, 3, 4]
    assert len(table) == len(given) - 2
    empty = tensometer._core.try_summarize([object()], ["a"])
    assert empty.ready()
    assert len(empty.result()) == 0


def test_what_takes_the_host_memory_alone_says_so(fake: Driver) -> None:
    with pytest.raises(ValueError, match=r"lies on cuda:0; here only tensors in CPU memory are taken$"):
        tensometer._core.UpdateTracker().before([fake.array(np.ones(4, np.float32))])


def test_all_that_lie_elsewhere_are_refused_at_once(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2 owner=1")
    fake.reset()
    elsewhere = [DLPackArray(fake, np.ones(5, np.float32)) for _ in range(50)]
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2")
    fake.reset()
    good = [DLPackArray(fake, np.full(5, value, np.float32)) for value in range(50)]
    given = [one for pair in zip(elsewhere, good, strict=True) for one in pair]
    before = fake.count("cuPointerGetAttribute")
    pending = tensometer._core.try_summarize(given, [f"t{at}" for at in range(100)])
    assert fake.count("cuPointerGetAttribute") - before == 100 + 50
    assert [at for at, _ in pending.refused] == list(range(0, 100, 2))
    assert {str(error) for at, error in pending.refused if at == 4} == {
        "t4: is in the memory of CUDA device 1, not of device 0"
    }
    assert [one.max for one in pending.result()] == list(range(50))
