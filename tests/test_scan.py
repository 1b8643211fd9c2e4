"""A scan gives each tensor's exact summary, however the file is cut, in bounded memory."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensometer
import torch
from checkpoint_files import safetensors_bytes, write_safetensors, write_sparse
from commands import on_terminal
from tensometer import scanner
from tensometer.checkpoint import CheckpointError
from tensometer.report.layout import fitting, shortened
from tensometer.scan_report import STATISTICS, Statistics, statistics_of

TENSORS = {
    "bias": ("float32", (384,)),
    "weight": ("float32", (300, 500)),
    "half": ("bfloat16", (1000, 130)),
    "eight": ("float8_e4m3fn", (70_001,)),
    "double": ("float64", (40_000,)),
    "ids": ("int64", (1, 512)),
    "flags": ("bool", (77,)),
    "none": ("float32", (0, 3)),
    "scalar": ("float32", ()),
}


def model(path: Path, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors above, written; returned as NumPy and ml_dtypes arrays."""
    tensors, stored = {}, {}
    for name, (dtype, shape) in TENSORS.items():
        kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
        tensors[name] = np.asarray(rng.normal(0.1, 2, shape) * (50 if kind.kind == "i" else 1)).astype(kind)
        raw = dtype not in np.sctypeDict
        stored[name] = tensors[name].view(f"u{kind.itemsize}") if raw else tensors[name]
    write_safetensors(path, stored, half="bfloat16", eight="float8_e4m3fn")
    return tensors


def same(a: Statistics | None, b: Statistics) -> bool:
    assert a is not None
    np.testing.assert_equal(dataclasses.astuple(a), dataclasses.astuple(b))
    return True


@pytest.mark.parametrize("window", [scanner.WINDOW, 1 << 14, 10_000])
@pytest.mark.parametrize("threads", [1, 3])
def test_statistics_are_those_of_the_whole_tensor(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, window: int, threads: int
) -> None:
    monkeypatch.setattr(scanner, "WINDOW", window)
    tensors = model(tmp_path / "m.safetensors", rng)
    report = tensometer.scan(tmp_path / "m.safetensors", threads=threads)
    assert [entry.name for entry in report.entries] == list(tensors)
    for name, tensor in tensors.items():
        entry = report[name]
        assert (entry.dtype, entry.shape, entry.nbytes) == (tensor.dtype.name, tensor.shape, tensor.nbytes)
        assert same(entry.statistics, statistics_of(tensometer.summarize(tensor)))
    assert report.totals.elements == sum(tensor.size for tensor in tensors.values())
    assert report.totals.nbytes == sum(tensor.nbytes for tensor in tensors.values())
    with pytest.raises(KeyError):
        report["missing"]


def test_minimum_and_maximum_of_int64_are_exact(tmp_path: Path) -> None:
    x = np.array([2**62 + 1, -(2**62) - 1, 0])
    np.save(tmp_path / "x.npy", x)
    statistics = tensometer.scan(tmp_path / "x.npy")["x"].statistics
    assert statistics is not None
    assert (statistics.min, statistics.max) == (-(2**62) - 1, 2**62 + 1)


def test_every_format_gives_the_same_statistics(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((123, 457)).astype(np.float32)
    write_safetensors(tmp_path / "a.safetensors", {"x": x})
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "stored.npz", x=x)
    np.savez_compressed(tmp_path / "compressed.npz", x=x)
    np.save(tmp_path / "big.npy", x.astype(">f4"))
    torch.save({"x": torch.from_numpy(x)}, tmp_path / "x.pt")
    expected = statistics_of(tensometer.summarize(x))
    files = ["a.safetensors", "x.npy", "stored.npz", "compressed.npz", "big.npy", "x.pt"]
    for entry in tensometer.scan([tmp_path / name for name in files]).entries:
        assert same(entry.statistics, expected)


def test_transposed_tensors_follow_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "WINDOW", 10_000)
    x = torch.randn(300, 200)
    torch.save({"t": x.t(), "sliced": x[:, ::3]}, tmp_path / "x.pt")
    np.save(tmp_path / "f.npy", np.asfortranarray(x.numpy()))
    report = tensometer.scan([tmp_path / "x.pt", tmp_path / "f.npy"])
    assert same(report["t"].statistics, statistics_of(tensometer.summarize(x.t())))
    assert same(report["sliced"].statistics, statistics_of(tensometer.summarize(x[:, ::3])))
    assert same(report["f"].statistics, statistics_of(tensometer.summarize(np.asfortranarray(x.numpy()))))


def test_filter_searches_names(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {name: np.arange(3) for name in ("a.w", "a.b", "b.w")})
    assert [entry.name for entry in tensometer.scan(path, filter="w$").entries] == ["a.w", "b.w"]
    with pytest.raises(ValueError, match=r"filter '\(' is not a regular expression"):
        tensometer.scan(path, filter="(")


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"x": np.arange(3)})
    with pytest.raises(ValueError, match=r"serve_dtype must be one of auto, none, .* not 'int8'"):
        tensometer.scan(path, serve_dtype="int8")
    with pytest.raises(ValueError, match="threads"):
        tensometer.scan(path, threads=-1)


def test_progress_counts_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    model(tmp_path / "m.safetensors", rng)
    seen: list[tuple[int, int]] = []
    report = tensometer.scan(tmp_path / "m.safetensors", progress=lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {report.totals.nbytes}
    assert sorted(seen) == seen
    assert seen[-1][0] == report.totals.nbytes


def test_skipped_tensors_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    header = {
        "four": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]},
        "x": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]},
    }
    path.write_bytes(safetensors_bytes(header, bytes(4)))
    report = tensometer.scan(path)
    assert (report.totals.tensors, report.totals.skipped, report.totals.nbytes) == (2, 1, 2)
    assert report["four"].statistics is None
    assert [(flag.name, flag.sentence) for flag in report["four"].flags] == [("skipped", "dtype F4 is not supported")]


@pytest.mark.parametrize("window", [scanner.WINDOW, 10_000])
def test_comparison_is_exact(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(scanner, "WINDOW", window)
    # Multiples of 1/64, whose differences are exact in float32.
    old = (rng.integers(-1000, 1000, (200, 300)) / 64).astype(np.float32)
    new = old.copy()
    new[3, :7] += 1
    np.savez_compressed(tmp_path / "old.npz", x=old, same=old, gone=old, shape=old, type=old)
    tensors = {"x": new, "same": old, "extra": old, "shape": old.T.copy(), "type": old.astype(np.float64)}
    write_safetensors(tmp_path / "new.safetensors", tensors)
    report = tensometer.scan(tmp_path / "new.safetensors", compare=tmp_path / "old.npz")
    change = report["x"].change
    assert change is not None
    assert (change.changed, change.max_abs_difference) == (7, 1)
    # Chunks merge in float64, after sums in float32 within blocks.
    norms = np.linalg.norm(new.astype(np.float64) - old), np.linalg.norm(old.astype(np.float64))
    assert change.relative_update == pytest.approx(norms[0] / norms[1], rel=1e-6)
    unchanged = report["same"].change
    assert unchanged is not None
    assert (unchanged.changed, unchanged.changed_fraction, unchanged.relative_update) == (0, 0, 0)
    assert unchanged.cosine == pytest.approx(1)
    flags = {(flag.tensor, flag.name, flag.sentence) for flag in report.flags}
    assert flags == {
        ("extra", "added", "the baseline has no tensor of this name"),
        ("shape", "reshaped", "shape [200, 300] became [300, 200]"),
        ("type", "retyped", "dtype float32 became float64"),
        ("gone", "missing", "only the baseline has this tensor"),
    }
    assert [report[name].change for name in ("extra", "shape", "type")] == [None] * 3


def test_comparison_pairs_elements_whatever_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "WINDOW", 1000)
    x = np.arange(6000, dtype=np.float32).reshape(20, 30, 10)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "x.npy", np.asfortranarray(x))
    change = tensometer.scan(tmp_path / "x.npy", compare=tmp_path / "f" / "x.npy")["x"].change
    assert change is not None
    assert change.changed == 0


def test_comparison_of_empty_and_scalar_tensors(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"empty": np.zeros((0, 3)), "one": np.array(2.5)})
    report = tensometer.scan(path, compare=path)
    assert [entry.change is not None and entry.change.changed for entry in report.entries] == [0, 0]


@pytest.mark.parametrize("dtype", [*tensometer.dtypes()])
def test_every_dtype_is_scanned_judged_and_compared(tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    bits = rng.integers(0, 2, (20, 30))
    x = bits.astype(kind)
    bits[3] = 1 - bits[3]
    y = bits.astype(kind)
    for name, tensor in (("x", x), ("y", y)):
        if dtype == "complex128":
            np.savez(tmp_path / f"{name}.npz", w=tensor)
            continue
        raw = dtype not in np.sctypeDict
        stored = tensor.view(f"u{kind.itemsize}") if raw else tensor
        write_safetensors(tmp_path / f"{name}.safetensors", {"w": stored}, w=dtype)
    suffix = "npz" if dtype == "complex128" else "safetensors"
    entry = tensometer.scan(tmp_path / f"y.{suffix}", units=True, compare=tmp_path / f"x.{suffix}")["w"]
    assert same(entry.statistics, statistics_of(tensometer.summarize(y)))
    if dtype.startswith("complex"):
        assert [(flag.name, flag.sentence) for flag in entry.flags] == [("not_compared", f"the dtype is {dtype}")]
    else:
        assert entry.flags == ()
        assert entry.change is not None
        assert entry.change.changed == 30


def test_comparison_needs_unique_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_safetensors(tmp_path / f"{name}.safetensors", {"x": np.arange(3)})
    with pytest.raises(CheckpointError, match="two tensors of one name"):
        tensometer.scan(tmp_path / "a.safetensors", compare=tmp_path)
    with pytest.raises(CheckpointError, match="two tensors of one name"):
        tensometer.scan(tmp_path, compare=tmp_path / "a.safetensors")
    assert len(tensometer.scan(tmp_path).entries) == 2


def peak_kilobytes(script: str, *arguments: object) -> int:
    """The largest resident size of an interpreter that runs the script."""
    script += "\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


SCAN = "import sys; from tensometer.cli import main\nmain(['scan', *sys.argv[1:], '--output', '/dev/null'])"
BOUND = 64 << 10


@pytest.mark.parametrize("arguments", [(), ("--units",), ("--compare",)])
def test_memory_stays_64_mb_above_the_interpreter(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = write_sparse(tmp_path / "m.safetensors", "BF16", [4096, 98_304], 4096 * 98_304 * 2)
    extra = (*arguments, path) if arguments == ("--compare",) else arguments
    peak = peak_kilobytes(SCAN, path, "--format", "jsonl", *extra)
    assert peak - peak_kilobytes("pass") < BOUND


def test_memory_of_many_tensors(tmp_path: Path) -> None:
    count = 10_000
    header = {
        f"model.layers.{i}.mlp.experts.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [64 * i, 64 * i + 64]}
        for i in range(count)
    }
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes(header, np.random.default_rng(5).bytes(64 * count)))
    assert peak_kilobytes(SCAN, path, "--format", "json") - peak_kilobytes("pass") < BOUND


def test_memory_of_a_compressed_archive(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1 << 13, 1 << 13), np.float32))
    assert peak_kilobytes(SCAN, tmp_path / "x.npz") - peak_kilobytes("pass") < BOUND


def test_statistics_keep_the_names_of_summary() -> None:
    summary = tensometer.summarize(np.arange(3.0))
    assert all(hasattr(summary, name) for name in STATISTICS)
    assert json.dumps(dataclasses.asdict(statistics_of(summary)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"paths": None}, TypeError, "paths: None is neither a path nor an iterable of paths"),
        ({"paths": 5}, TypeError, "paths: 5 is neither a path nor an iterable of paths"),
        ({"paths": b"x"}, TypeError, "paths: b'x' is neither a path nor an iterable of paths"),
        ({"paths": []}, ValueError, "paths: none are given"),
        ({"paths": [3]}, TypeError, "paths: 3 is not a path"),
        ({"paths": ""}, ValueError, "paths: the path is empty"),
        ({"paths": "x", "filter": 5}, TypeError, "filter: 5 is neither text nor a pattern of text"),
        ({"paths": "x", "compare": 5}, TypeError, "compare: 5 is not a path"),
        ({"paths": "x", "threads": "2"}, TypeError, "threads: '2' is not a whole number"),
        ({"paths": "x", "units": "no"}, TypeError, "units: 'no' is not True or False"),
        ({"paths": "x", "progress": 3}, TypeError, "progress: 3 cannot be called"),
    ],
)
def test_wrong_arguments_are_named_first(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    # The file does not exist: that this is not what the error is about shows the order.
    with pytest.raises(error, match=re.escape(message)):
        tensometer.scan(**arguments)


@pytest.mark.parametrize(
    ("width", "short"),
    [
        (50, "encoder.layer.11.attention.output.LayerNorm.weight"),
        (49, "e.layer.11.attention.output.LayerNorm.weight"),
        (40, "e.l.11.attention.output.LayerNorm.weight"),
        (32, "e.l.11.a.output.LayerNorm.weight"),
        (20, "e.l.11.a.o.L.weight"),
        (12, "e.l\u2026L.weight"),
    ],
)
def test_short_names_keep_their_numbers_and_their_end(width: int, short: str) -> None:
    assert shortened("encoder.layer.11.attention.output.LayerNorm.weight", width) == short
    assert len(shortened("x" * 300, width)) == width


def test_flags_fold_before_names_are_cut(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((40, 50)).astype(np.float32)
    x[0, :2], x[3], x[4], x[7] = (np.nan, 1e38), 0, x[5], 1  # five flags
    names = [f"encoder.layer.{i}.attention.output.LayerNorm.weight" for i in (11, 12, 13)]
    path = write_safetensors(tmp_path / "m.safetensors", dict.fromkeys(names, x))
    for columns in ("80", "100", "120"):
        sent = on_terminal("scan", str(path), "--units", environment={"COLUMNS": columns})[1]
        for number in (11, 12, 13):
            assert re.search(rf"^e\S*\.{number}\.\S*output\.LayerNorm\.weight +", sent, re.MULTILINE)
    headings = ("name", "min", "max", "flags")
    assert fitting(headings, [(names[0], "-3.899e-05", "1.234e-05", "nan rows_not_judged")] * 2, 62)[1] >= 20
