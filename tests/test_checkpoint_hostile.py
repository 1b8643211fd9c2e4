"""No file can do more than be refused: one hostile file for each error, then mutations without end."""

import json
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import gguf_bytes, gguf_string, npy_bytes, safetensors_bytes, write_safetensors, zip_bytes
from hostile_files import FILES, GOOD_NPY, two
from hostile_torch import FLOATS, TORCH, tensor_pickle, torch_zip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensometer.checkpoint import CheckpointError, read_checkpoint


@pytest.mark.parametrize(
    ("suffix", "data", "sentence"),
    [
        pytest.param(suffix, data, sentence, id=f"{suffix}: {name}")
        for suffix, files in FILES.items()
        for name, (data, sentence) in files.items()
    ],
)
def test_one_clear_sentence(tmp_path: Path, suffix: str, data: bytes, sentence: str) -> None:
    write_safetensors(tmp_path / "good.safetensors", {"g": np.arange(3)})
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(data)
    refused(path, sentence)


def refused(path: Path, sentence: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_everything(path)
    message = str(caught.value)
    assert re.search(sentence, message), message
    assert message.startswith(str(path.parent)) or str(path.parent) in message
    one_sentence(caught.value)


def one_sentence(error: CheckpointError) -> None:
    assert "\n" not in str(error)


def read_everything(path: Path) -> None:
    for entry in read_checkpoint(path):
        if entry.source is not None:
            for window in entry.source.windows(4096):
                window.tobytes()


def test_damaged_compressed_member(tmp_path: Path) -> None:
    header = "{'descr':'<f4','fortran_order':False,'shape':(753,)}"
    good = zip_bytes({"a.npy": npy_bytes(header, bytes(range(251)) * 12)}, zipfile.ZIP_DEFLATED)
    for position in range(60, len(good) - 80):
        path = tmp_path / "bad.npz"
        path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
        # The check sum of the archive finds what the decompressor does not.
        with pytest.raises(CheckpointError):
            read_everything(path)


@pytest.mark.parametrize("name", TORCH)
def test_torch_files_are_refused(tmp_path: Path, name: str) -> None:
    data, sentence = TORCH[name]
    path = tmp_path / "bad.pt"
    path.write_bytes(data)
    refused(path, sentence)


def test_the_handmade_torch_file_is_good_without_the_lie(tmp_path: Path) -> None:
    path = tmp_path / "good.pt"
    path.write_bytes(torch_zip(tensor_pickle(), {"0": np.arange(4, dtype=np.float32).tobytes()}))
    (entry,) = read_checkpoint(path)
    assert entry.source is not None
    assert entry.source.whole().tolist() == [0, 1, 2, 3]
    assert torch.load(path, weights_only=True)["w"].tolist() == [0, 1, 2, 3]


def test_expanded_beyond_the_file_is_skipped(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1).expand(1 << 40)}, tmp_path / "x.pt")
    (entry,) = read_checkpoint(tmp_path / "x.pt")
    assert entry.source is None
    assert entry.skipped.startswith("an expanded view: 4398046511104 bytes")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.safetensors", "no such file"),
        ("missing", "no such file"),
        ("folder", "is a folder without a checkpoint"),
        ("file.txt", "is none of .safetensors"),
        ("pipe.safetensors", "is not a regular file"),
        ("loop.safetensors", "too many levels of symbolic links"),
        ("long" * 100, "file name too long"),
        ("nul\0.safetensors", "null (byte|character)"),
    ],
)
def test_what_is_no_file(tmp_path: Path, name: str, sentence: str) -> None:
    import os

    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("hello")
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    refused(tmp_path / name, sentence)


def mutations(valid: bytes) -> st.SearchStrategy[bytes]:
    """The file cut, or with some bytes replaced, inserted or deleted; the beginning is hit most."""
    position = st.one_of(st.integers(0, min(len(valid), 400)), st.integers(0, len(valid)))
    edit = st.tuples(position, st.integers(0, 3), st.binary(max_size=9))

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = valid
        for where, removed, added in edits:
            data = data[:where] + added + data[where + removed :]
        return data

    return st.one_of(
        st.integers(0, len(valid)).map(lambda n: valid[:n]), st.lists(edit, min_size=1, max_size=4).map(apply)
    )


def torch_file() -> bytes:
    return torch_zip(tensor_pickle(), FLOATS)


VALID: dict[str, Callable[[], bytes]] = {
    ".safetensors": lambda: safetensors_bytes(two((0, 4), (4, 6)) | {"__metadata__": {"k": "v"}}, bytes(6)),
    ".npy": lambda: GOOD_NPY,
    ".npz": lambda: zip_bytes({"a.npy": GOOD_NPY, "b.npy": GOOD_NPY}, zipfile.ZIP_DEFLATED),
    ".gguf": lambda: gguf_bytes(
        [("x", [2], 0, 0), ("y", [32], 8, 32)],
        bytes(80),
        values=gguf_string("k") + struct.pack("<IIQ", 9, 8, 1) + gguf_string("word"),
        value_count=1,
    ),
    ".index.json": lambda: json.dumps({"metadata": {"a": [1, {}]}, "weight_map": {"g": "good.safetensors"}}).encode(),
    ".pt": torch_file,
}


@pytest.mark.parametrize("suffix", VALID)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutations_give_tensors_or_an_error(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    write_safetensors(tmp_path / "good.safetensors", {"g": np.arange(3)})
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(data.draw(mutations(VALID[suffix]())))
    try:
        read_everything(path)
    except CheckpointError as error:
        one_sentence(error)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["w", "dtype", "shape", "data_offsets", "__metadata__"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_as_a_header(tmp_path: Path, text: Any) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(safetensors_bytes(text, bytes(8)))
    try:
        read_everything(path)
    except CheckpointError as error:
        one_sentence(error)


# In each, following the claim would take gigabytes. `seek` makes the claim true as far as the file's size goes.
BOMBS: dict[str, tuple[bytes, int]] = {
    "header.safetensors": (struct.pack("<Q", 100_000_000) + b'{"__metadata__":{"a":"' + b"x" * 1000, 2 << 30),
    "lists.safetensors": (safetensors_bytes(b'{"a":{"x":[' + b"[],[]," * 10_000_000), 0),
    "names.safetensors": (
        safetensors_bytes(
            b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(400_000)) + b"}"
        ),
        0,
    ),
    "lists.index.json": (b'{"metadata":[' + b"[[]],{}," * 250_000, 0),
    "header.npy": (b"\x93NUMPY\x02\x00\xf0\xff\xff\xff", 5 << 30),
    "values.gguf": (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**40), 2 << 30),
    "strings.gguf": (
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + gguf_string("k") + struct.pack("<IIQ", 9, 8, 2**40),
        2 << 30,
    ),
}


@pytest.mark.parametrize("name", [*BOMBS, "directory.npz"])
def test_no_claim_makes_the_reader_allocate(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "directory.npz":
        # An archive whose directory is 3 GB of zeros.
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 3 << 30, 0, 0)
        with path.open("wb") as stream:
            stream.seek(3 << 30)
            stream.write(end)
    else:
        data, size = BOMBS[name]
        with path.open("wb") as stream:
            stream.write(data)
            stream.truncate(max(size, len(data)))
    script = (
        "import sys; from pathlib import Path; from tensometer.checkpoint import CheckpointError, read_checkpoint\n"
        "try: read_checkpoint(Path(sys.argv[1])); print('read')\n"
        "except CheckpointError as error: print('refused')\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    outcome, peak = result.stdout.split()
    assert outcome == "refused"
    # 32 MB of interpreter, and up to a kilobyte for each of MAX_TENSORS.
    assert int(peak) < (400_000 if name.startswith("names") else 64_000)


@pytest.mark.parametrize("kind", ["quantized", "nested"])
@pytest.mark.filterwarnings("ignore")
def test_torch_tensors_that_need_their_data(tmp_path: Path, kind: str) -> None:
    x = torch.ones(3)
    quantized, nested = torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), torch.nested.nested_tensor([x])
    torch.save({"w": x, "x": quantized if kind == "quantized" else nested}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=f"holds a {kind} tensor, which PyTorch cannot load without its data$"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore")
def test_jagged_tensors_are_named(tmp_path: Path) -> None:
    jagged = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged)
    torch.save({"w": torch.ones(3), "x": jagged}, tmp_path / "x.pt")
    # Without torch._dynamo, which saving has imported here.
    script = "import sys; from tensometer.checkpoint import read_checkpoint; read_checkpoint(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "x.pt"], capture_output=True, text=True, check=False
    )
    assert result.stderr.endswith("x.pt: holds nested jagged tensors, which are not read\n")
    found = {entry.name: entry.skipped for entry in read_checkpoint(tmp_path / "x.pt")}
    assert found == {"w": "", "x": "nested tensors are not supported"}


def test_refusals_of_torch_give_no_advice(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(TORCH["class"][0])
    with pytest.raises(CheckpointError, match=r"Unsupported global: GLOBAL hostile_torch\.Alien$"):
        read_checkpoint(tmp_path / "x.pt")


def test_names_that_join_to_one_are_told_apart(tmp_path: Path) -> None:
    x = torch.ones(3)
    torch.save({"s": {"a.b": x}, "s.a": {"b": 2 * x}}, tmp_path / "x.pt")
    assert [entry.name for entry in read_checkpoint(tmp_path / "x.pt")] == ["s.a.b", "s.a.b (2)"]
