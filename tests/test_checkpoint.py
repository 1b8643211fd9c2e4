"""Every format gives the names, types, shapes and bits that its own library wrote."""

import json
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from checkpoint_files import SAFETENSORS_NAMES, gguf_bytes, gguf_string, write_safetensors
from gguf import GGMLQuantizationType, GGUFWriter
from tensometer.checkpoint import CheckpointError, Entry, RowsNotReadableError, read_checkpoint

RAW = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")


def bits(entry: Entry, limit: int = 64, *, logical: bool = True) -> np.ndarray[Any, Any]:
    """All elements through small windows."""
    assert entry.source is not None
    parts = [part.reshape(-1).copy() for part in entry.source.windows(limit, logical=logical)]
    return np.concatenate(parts) if parts else entry.source.whole().reshape(-1)


def by_name(path: Path) -> dict[str, Entry]:
    return {entry.name: entry for entry in read_checkpoint(path)}


def random_bits(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    size = np.dtype(getattr(ml_dtypes, dtype, dtype)).itemsize
    raw = rng.integers(0, 2 if dtype == "bool" else 256, (*shape, size), dtype=np.uint8)
    kind = f"uint{8 * size}" if dtype in RAW else dtype
    return raw.view(kind)[..., 0]


@pytest.mark.parametrize("dtype", SAFETENSORS_NAMES)
def test_safetensors_gives_every_dtype(tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
    tensors = {"odd": np.zeros(3, np.uint8), "x": random_bits(rng, dtype, (7, 5)), "empty": np.zeros((0, 4), np.int8)}
    entry = by_name(write_safetensors(tmp_path / "m.safetensors", tensors, x=dtype))["x"]
    assert (entry.dtype, entry.shape, entry.nbytes) == (dtype, (7, 5), tensors["x"].nbytes)
    assert bits(entry).tobytes() == tensors["x"].tobytes()
    assert entry.source is not None
    assert entry.source.whole().tobytes() == tensors["x"].tobytes()


def test_safetensors_written_by_its_library(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = {f"layer.{i}.weight": rng.standard_normal((i + 1, 9)).astype(np.float32) for i in range(20)}
    safetensors.numpy.save_file(tensors, tmp_path / "m.safetensors", {"note": 'quotes " and \u00e9'})
    found = by_name(tmp_path / "m.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].shape == tensor.shape
        np.testing.assert_array_equal(bits(found[name]), tensor.ravel())


def test_rows_arrive_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((11, 4)).astype(np.float32)
    source = by_name(write_safetensors(tmp_path / "m.safetensors", {"x": x}))["x"].source
    assert source is not None
    np.testing.assert_array_equal(np.concatenate([part.copy() for part in source.rows(40, 100)]), x)
    assert [len(part) for part in source.rows(1000, 4)] == [4, 4, 3]
    with pytest.raises(RowsNotReadableError, match="16 bytes"):
        list(source.rows(15, 4))


def test_reading_goes_on_after_close(tmp_path: Path) -> None:
    x = np.arange(5, dtype=np.int64)
    entry = by_name(write_safetensors(tmp_path / "m.safetensors", {"x": x}))["x"]
    assert entry.source is not None
    for _ in range(2):
        np.testing.assert_array_equal(bits(entry), x)
        entry.source.close()


def test_a_file_that_changes_is_an_error(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"x": np.arange(5)})
    entry = read_checkpoint(path)[0]
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="changed while it was read"):
        bits(entry)


def test_known_but_unsupported_dtypes_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    header = {
        "four": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]},
        "scale": {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [2, 4]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    assert [(entry.dtype, entry.source, entry.skipped) for entry in read_checkpoint(path)] == [
        ("F4", None, "dtype F4 is not supported"),
        ("F8_E8M0", None, "dtype F8_E8M0 is not supported"),
    ]


def sharded(folder: Path) -> Path:
    write_safetensors(folder / "a-1.safetensors", {"x": np.arange(3), "y": np.arange(4)})
    write_safetensors(folder / "a-2.safetensors", {"z": np.arange(5), "spare": np.arange(6)})
    index = folder / "a.safetensors.index.json"
    weight_map = {"x": "a-1.safetensors", "y": "a-1.safetensors", "z": "a-2.safetensors"}
    metadata = {"total_size": 96, "deep": [{"x": [1, -2.5e3, None, True, "s"]}, []]}
    index.write_text(json.dumps({"metadata": metadata, "weight_map": weight_map}))
    return index


def test_index_and_folder_give_the_shards(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "unrelated.safetensors", {"u": np.arange(3)})
    for path in (sharded(tmp_path), tmp_path):
        found = by_name(path)
        assert {name: entry.skipped for name, entry in found.items()} == {
            "x": "",
            "y": "",
            "z": "",
            "spare": "the index does not place it in this file",
        }
        np.testing.assert_array_equal(bits(found["z"]), np.arange(5))


def test_folder_without_index_gives_the_first_format(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "b.safetensors", {"b": np.arange(3)})
    write_safetensors(tmp_path / "a.safetensors", {"a": np.arange(3)})
    np.save(tmp_path / "c.npy", np.arange(3))
    assert [entry.name for entry in read_checkpoint(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">i8", "<u2", "|b1", "|i1", "<c16", ">f2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", ["x.npy", "stored.npz", "compressed.npz"])
def test_numpy_files(tmp_path: Path, rng: np.random.Generator, dtype: str, order: str, name: str) -> None:
    x = np.array(rng.integers(0, 99, (6, 7, 2)).astype(dtype), order=order)
    path = tmp_path / name
    {"x.npy": np.save, "stored.npz": np.savez, "compressed.npz": np.savez_compressed}[name](path, x)
    (entry,) = read_checkpoint(path)
    assert entry.name == ("x" if name == "x.npy" else "arr_0")
    assert (entry.dtype, entry.shape, entry.nbytes) == (x.dtype.newbyteorder("=").name, x.shape, x.nbytes)
    memory_order = x.ravel(order="K")
    np.testing.assert_array_equal(bits(entry, logical=False), memory_order)
    if name == "compressed.npz" and order == "F":
        # A stream has one order only.
        return
    np.testing.assert_array_equal(bits(entry), x.ravel())
    assert entry.source is not None
    np.testing.assert_array_equal(np.concatenate([r.copy() for r in entry.source.rows(10_000, 4)]), x.reshape(6, -1))


def test_numpy_skips_what_is_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, text=np.array(["a"]), pair=np.zeros(2, "f4,i4"), objects=np.array([None]), x=np.zeros((), "f4"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    found = by_name(path)
    assert {name: entry.skipped.partition(" ")[0] for name, entry in found.items()} == {
        "text": "dtype",
        "pair": "dtype",
        "objects": "holds",
        "x": "",
        "readme.txt": "is",
    }
    assert found["x"].shape == ()


def test_torch_files(tmp_path: Path) -> None:
    x = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "x": x,
        "transposed": x.t(),
        "sliced": x[1:3, ::2],
        "expanded": x[:, :1].expand(4, 3),
        "model": {"bf16": torch.nn.Parameter(torch.ones(3, 2, dtype=torch.bfloat16)), "step": 3, 7: [x[0], "text"]},
        "fp8": torch.arange(5, dtype=torch.float32).to(torch.float8_e4m3fn),
        "scalar": torch.tensor(5),
        "empty": torch.zeros(0, 3),
        "sparse": torch.eye(3).to_sparse(),
        "tied": x,
    }
    torch.save(state, tmp_path / "m.pt")
    found = by_name(tmp_path / "m.pt")
    expected = ["x", "transposed", "sliced", "expanded", "model.bf16", "model.7.0", "fp8", "scalar", "empty"]
    assert list(found) == [*expected, "sparse", "tied"]
    assert found["tied"].tied_to == "x"
    assert found["sparse"].skipped == "layout sparse_coo is not supported"
    for name, tensor in state.items():
        if isinstance(tensor, torch.Tensor) and name not in ("sparse", "fp8"):
            assert found[name].shape == tuple(tensor.shape)
            np.testing.assert_array_equal(bits(found[name], 32), tensor.numpy().ravel())
    assert (found["model.bf16"].dtype, bits(found["model.bf16"]).tolist()) == ("bfloat16", [0x3F80] * 6)
    assert bits(found["fp8"]).tolist() == state["fp8"].view(torch.uint8).tolist()
    np.testing.assert_array_equal(bits(found["transposed"], logical=False), np.arange(24))


def test_torch_module_file(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    torch.save(module.state_dict(), tmp_path / "m.bin")
    found = by_name(tmp_path / "m.bin")
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(bits(found[name]), tensor.numpy().ravel())


def test_gguf_written_by_its_library(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "m.gguf"
    writer = GGUFWriter(path, "test")
    writer.add_array("words", [f"word {i}" for i in range(100)])
    writer.add_array("scores", [0.5] * 100)
    tensors = {
        "f32": rng.standard_normal((3, 5)).astype(np.float32),
        "f16": rng.standard_normal((2, 3, 4)).astype(np.float16),
        "i8": np.arange(7, dtype=np.int8),
        "f64": rng.standard_normal(9),
    }
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.add_tensor("q8", np.zeros((2, 34), np.uint8), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = by_name(path)
    assert list(found) == [*tensors, "q8"]
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype.name, tensor.shape)
        np.testing.assert_array_equal(bits(found[name]), tensor.ravel())
    assert found["q8"].shape == (2, 32)
    assert found["q8"].skipped == "is quantised (ggml type 8)"


def test_gguf_alignment_and_bfloat16(tmp_path: Path) -> None:
    value = gguf_string("general.alignment") + (4).to_bytes(4, "little") + (128).to_bytes(4, "little")
    data = np.arange(6, dtype=np.uint16).tobytes()
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes([("x", [3, 2], 30, 0)], data, values=value, value_count=1, alignment=128))
    (entry,) = read_checkpoint(path)
    assert (entry.dtype, entry.shape, bits(entry).tolist()) == ("bfloat16", (2, 3), list(range(6)))


def test_gguf_types_agree_with_the_library() -> None:
    from tensometer.checkpoint.gguf_file import _DTYPES

    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    names |= {f"I{size}": f"int{size}" for size in (8, 16, 32, 64)}
    assert {GGMLQuantizationType[ours].value: name for ours, name in names.items()} == _DTYPES


def test_torch_names_that_join_to_one_stay_apart(tmp_path: Path) -> None:
    one, two = torch.ones(1), torch.ones(2)
    torch.save({"a.b": one, "a": {"b": two}, "a.b (2)": torch.ones(3), "c": {"d": one}, "c.d": two}, tmp_path / "m.pt")
    found = read_checkpoint(tmp_path / "m.pt")
    shapes = {"a.b": (1,), "a.b (2)": (2,), "a.b (2) (2)": (3,), "c.d": (1,), "c.d (2)": (2,)}
    assert [(entry.name, entry.shape) for entry in found] == list(shapes.items())


def test_torch_views_that_stand_for_other_numbers_are_skipped(tmp_path: Path) -> None:
    conjugate, other = (torch.complex(torch.ones(2), torch.ones(2)).conj() for _ in range(2))
    assert other.imag.tolist() == [-1, -1]  # stored as 1, marked as negated
    torch.save({"c": conjugate, "n": other.imag, "w": torch.ones(2)}, tmp_path / "m.pt")
    skipped = {name: entry.skipped for name, entry in by_name(tmp_path / "m.pt").items()}
    assert skipped == {"c": "", "n": "negated views are not supported", "w": ""}


def test_torch_tensors_without_data_are_skipped(tmp_path: Path) -> None:
    torch.save({"m": torch.empty(3, device="meta"), "w": torch.ones(2)}, tmp_path / "m.pt")
    found = by_name(tmp_path / "m.pt")
    assert {name: entry.skipped for name, entry in found.items()} == {"m": "has no data in the file", "w": ""}
    assert bits(found["w"]).tolist() == [1, 1]
