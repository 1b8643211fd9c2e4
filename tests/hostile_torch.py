"""Hostile PyTorch archives: for each its bytes and the sentence that refuses it."""

import pickle
import struct
import zipfile
from typing import Any

from checkpoint_files import zip_bytes


class Alien:
    """A class that no weights-only file may name."""


def torch_zip(pickled: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    files = {"m/data.pkl": pickled, "m/version": b"3", "m/byteorder": b"little"}
    return zip_bytes(files | {f"m/data/{key}": data for key, data in (storages or {}).items()})


def tensor_pickle(
    *, key: str = "0", numel: int = 4, offset: int = 0, size: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,)
) -> bytes:
    """What torch.save writes for one float32 tensor, with any numbers in it."""

    def integers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x09" + value.to_bytes(9, "little", signed=True) for value in values) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + integers((numel,))[1:-1] + b"tQ"
    )
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integers((offset,))[1:-1]
    rebuilt += integers(size) + integers(stride) + hooks + b"tR"
    return b"\x80\x02}" + text("w") + rebuilt + b"s."


def endless() -> bytes:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    return pickle.dumps(loop, 2)


def exponential() -> bytes:
    tree: dict[str, Any] = {}
    for _ in range(40):
        tree = {"a": tree, "b": tree}
    return pickle.dumps(tree, 2)


def many_tensors() -> bytes:
    return tensor_pickle()[:-2].replace(b"}X\x01\0\0\0w", b"]") + b"q\x00" + b"ah\x00" * 300_000 + b"a."


FLOATS = {"0": bytes(16)}
TORCH: dict[str, tuple[bytes, str]] = {
    "legacy": (pickle.dumps(119547037146038801333356, 2), "not a PyTorch zip archive; a file of PyTorch 1.5"),
    "truncated": (torch_zip(tensor_pickle(), FLOATS)[:-40], "not a readable zip archive"),
    "no pickle": (zip_bytes({"m/version": b"3"}), "has 0 members named data.pkl"),
    "two pickles": (zip_bytes({"m/data.pkl": b"", "n/data.pkl": b""}), "has 2 members named data.pkl"),
    "pickle of 17 MB": (zip_bytes({"m/data.pkl": bytes(17 << 20)}, zipfile.ZIP_DEFLATED), "a pickle of 17825792 bytes"),
    "version of 17 MB": (
        zip_bytes({"m/data.pkl": b"", "m/version": bytes(17 << 20)}, zipfile.ZIP_DEFLATED),
        "'version' has 17825792 bytes",
    ),
    "big-endian": (zip_bytes({"m/data.pkl": b"", "m/byteorder": b"big"}), "not little-endian"),
    "class": (torch_zip(pickle.dumps(Alien(), 2)), "weights_only=True: Unsupported global.*Alien"),
    "code": (
        torch_zip(b"cos\nsystem\n(X\x04\0\0\0exit" + b"tR."),
        r"weights_only=True: Unsupported global: GLOBAL os\.system$",
    ),
    "long global": (torch_zip(b"\x80\x02c" + b"m" * 300 + b"\nx\n."), r"Unsupported global: GLOBAL m{200}\.\.\.$"),
    "item of a dictionary": (
        torch_zip(b"\x80\x02}K\x01a."),
        r"weights_only=True: Can only append to lists, but got <class 'dict'>$",
    ),
    "built number": (
        torch_zip(b"\x80\x02K\x01K\x02b."),
        r"weights_only=True: Can only build Tensor, Parameter, OrderedDict, but got <class 'int'>$",
    ),
    "cut pickle": (torch_zip(tensor_pickle()[:-9], FLOATS), "cannot be loaded with weights_only=True"),
    "allocation": (torch_zip(b"\x80\x02cbuiltins\nbytearray\n(\x8a\x05\0\0\0\0\x7ftR."), "calls bytearray"),
    "missing storage": (torch_zip(tensor_pickle(key="7"), FLOATS), "cannot be loaded"),
    "storage too large": (
        torch_zip(tensor_pickle(numel=2**40), FLOATS),
        "byte 4398046511104 of a storage of 16",
    ),
    "size beyond the storage": (torch_zip(tensor_pickle(size=(5,)), FLOATS), "reaches byte"),
    "offset beyond the storage": (torch_zip(tensor_pickle(offset=2**40), FLOATS), "reaches byte"),
    "negative size": (torch_zip(tensor_pickle(size=(-1,)), FLOATS), "cannot be loaded"),
    "compressed storage": (
        zip_bytes({"m/data.pkl": tensor_pickle(), "m/version": b"3", "m/data/0": bytes(16)}, zipfile.ZIP_DEFLATED),
        "is not a stored member",
    ),
    "endless": (torch_zip(endless()), "more than 64 levels deep"),
    "exponential": (torch_zip(exponential()), "holds more than 1048576 objects"),
    "many tensors": (torch_zip(many_tensors(), FLOATS), "holds more than 262144 tensors"),
}
