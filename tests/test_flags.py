"""Each flag fires at its condition and not beside it, and docs/scan.md says the same."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from checkpoint_files import write_safetensors
from tensometer import scanner
from tensometer.flags import FLAGS, OUTLIER_MIN_COUNT, OUTLIER_RATIO, RULES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scan.md"


@pytest.fixture
def flags(tmp_path: Path, rng: np.random.Generator) -> Callable[..., list[tuple[str, str]]]:
    """The (name, severity) of every flag of one tensor."""

    def of(x: Any, name: str = "layer.weight", **options: Any) -> list[tuple[str, str]]:
        path = write_safetensors(tmp_path / "m.safetensors", {name: np.asarray(x)})
        return [(flag.name, flag.severity.label) for flag in tensometer.scan(path, **options)[name].flags]

    return of


Flags = Callable[..., list[tuple[str, str]]]


def normal(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def test_healthy_tensors_have_none(flags: Flags) -> None:
    assert flags(normal(100, 300), units=True) == []
    assert flags(normal(50)) == []
    assert flags(np.arange(512).reshape(1, 512), units=True) == []


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_nan_and_inf(flags: Flags, dtype: str) -> None:
    x = normal(8, 9).astype(dtype)
    x[2, 3] = np.nan
    assert flags(x) == [("nan", "error")]
    x[2, 4] = np.inf
    assert flags(x) == [("nan", "error"), ("inf", "error")]
    x[2, 3] = 0
    assert flags(x) == [("inf", "error")]


def test_sentences_count(tmp_path: Path) -> None:
    x = np.array([np.nan, np.inf, -np.inf, -np.inf, 1], np.float32)
    path = write_safetensors(tmp_path / "m.safetensors", {"x": x})
    assert [flag.sentence for flag in tensometer.scan(path).flags] == [
        "1 of 5 elements is NaN",
        "1 +Inf and 2 -Inf among 5 elements",
    ]


def test_a_mask_is_a_note(flags: Flags) -> None:
    mask = np.triu(np.full((5, 5), -np.inf, np.float32), 1)
    assert flags(mask) == [("mask", "note")]
    mask[0, 0] = 1
    assert flags(mask) == [("inf", "error")]


def test_all_zero(flags: Flags) -> None:
    assert flags(np.zeros((3, 4), np.float32)) == [("all_zero", "warning")]
    assert flags(np.zeros(4, np.float32)) == [("all_zero", "note")]
    assert flags(np.zeros((1, 4), np.float32)) == [("all_zero", "note")]
    assert flags(np.zeros((3, 4), np.int64)) == [("all_zero", "note")]
    assert flags(np.zeros((), np.float32)) == []
    assert flags(np.array([[0, 0], [0, 1e-30]], np.float64), serve_dtype="none") == []


def test_constant(flags: Flags) -> None:
    assert flags(np.full((3, 4), 0.5, np.float32)) == [("constant", "warning")]
    assert flags(np.ones(4, np.float32)) == [("constant", "note")]
    assert flags(np.ones((), np.float32)) == []
    assert flags(np.array([1, 1, np.nan], np.float32)) == [("nan", "error")]


def test_empty(flags: Flags) -> None:
    assert flags(np.zeros((0, 4), np.float32), units=True) == [("empty", "note")]


def test_overflow(flags: Flags) -> None:
    """65520 is the least float32 that rounds to infinity in float16 (its largest value is 65504, its step there 32)."""
    below, at = np.nextafter(np.float32(65520), np.float32(0)), np.float32(65520)
    assert flags(np.array([1, 2, below])) == []
    assert flags(np.array([1, 2, at])) == [("overflow", "warning")]
    assert flags(np.array([1, 2, -at])) == [("overflow", "warning")]
    assert flags(np.array([1, 2, at]), serve_dtype="bfloat16") == []
    assert flags(np.array([1, 2, at]), serve_dtype="none") == []
    assert flags(np.array([1, 500], np.float16), serve_dtype="auto") == []
    assert flags(np.array([1, 500], np.float16), serve_dtype="float8_e4m3fn") == [("overflow", "warning")]
    assert flags(np.array([1, 70_000], np.int64)) == []


def test_estimates_say_so(tmp_path: Path) -> None:
    """From 64 blocks of 4096 on one in eight is counted; the largest magnitude still tells of one that overflows."""
    x = normal(1024, 1024)
    x[:, :512] *= 1e-9
    x[1000, 700] = 1e6
    path = write_safetensors(tmp_path / "m.safetensors", {"large": x, "small": x[-64:]})
    about, exact = (tensometer.scan(path)[name].flags for name in ("large", "small"))
    assert [flag.name for flag in about][:2] == [flag.name for flag in exact][:2] == ["overflow", "underflow"]
    assert re.fullmatch(r"about \d+ of 1048576 elements would overflow in float16", about[0].sentence)
    assert [flags[1].sentence.startswith("about ") for flags in (about, exact)] == [True, False]
    assert exact[0].sentence == "at least 1 of 65536 elements would overflow in float16"
    underflow = int(about[1].sentence.split()[1])
    assert abs(underflow - int((np.abs(x) < 2.0**-25).sum())) < 0.05 * x.size


def test_underflow(flags: Flags) -> None:
    """Half of float16's least sub-normal, 2**-25, and less becomes zero."""
    tiny = np.float32(2.0**-26)
    assert flags(np.array([tiny] * 2 + [1] * 198 + [0] * 1000, np.float32)) == [("underflow", "warning")]
    assert flags(np.array([tiny] * 2 + [1] * 199, np.float32)) == []
    assert flags(np.array([tiny] * 9), serve_dtype="bfloat16") == [("constant", "note")]


def test_outliers(flags: Flags) -> None:
    x = np.where(np.arange(OUTLIER_MIN_COUNT) % 2, 1, -1).astype(np.float32)
    x[7] = OUTLIER_RATIO * 0.98
    assert flags(x) == []
    # Quantiles come from bins of an eighth of an octave: 6 % wide.
    x[7] = OUTLIER_RATIO * 1.07
    assert flags(x) == [("outliers", "note")]
    assert flags(x[:-1]) == []
    assert flags(x.reshape(100, -1)) == [("outliers", "note")]


def damaged() -> np.ndarray[Any, np.dtype[np.float32]]:
    x = normal(40, 16)
    x[3] = 0
    x[9] = 0.25
    x[21] = x[20]
    return x


def test_rows(flags: Flags, tmp_path: Path) -> None:
    assert flags(damaged()) == []
    expected = [("dead_rows", "warning"), ("constant_rows", "warning"), ("identical_rows", "warning")]
    assert flags(damaged(), units=True) == expected
    assert [flag.sentence for flag in tensometer.scan(tmp_path / "m.safetensors", units=True).flags] == [
        "row 3 of 40 is all zero",
        "row 9 of 40 is constant",
        "rows 20, 21 of 40 are identical",
    ]


def test_rows_of_tables_are_notes(flags: Flags) -> None:
    expected = [("padding_rows", "note"), ("constant_rows", "warning"), ("identical_rows", "note")]
    assert flags(damaged(), "model.embed_tokens.weight", units=True) == expected


@pytest.mark.parametrize("window", [scanner.WINDOW, 200])
@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_rows_are_found_across_pieces(flags: Flags, monkeypatch: pytest.MonkeyPatch, window: int, at_once: int) -> None:
    monkeypatch.setattr(scanner, "WINDOW", window)
    monkeypatch.setattr(scanner, "ROWS_AT_ONCE", at_once)
    x = normal(500, 3, 4)
    x[499] = x[1]
    x[250] = x[1]
    x[7] = x[8]
    x[100:120] = 0
    assert flags(x, units=True) == [("dead_rows", "warning"), ("identical_rows", "warning")]


def test_sentences_of_rows(tmp_path: Path) -> None:
    x = normal(60, 8)
    x[:12] = 0
    for row in range(20, 60, 8):
        x[row] = x[row + 1] = x[row + 2]
    path = write_safetensors(tmp_path / "m.safetensors", {"x": x})
    assert [flag.sentence for flag in tensometer.scan(path, units=True).flags] == [
        "rows 0, 1, 2, 3, 4 and 7 more of 60 are all zero",
        "rows 20, 21, 22; rows 28, 29, 30; rows 36, 37, 38; and 2 more groups of 60 are identical",
    ]
    path = write_safetensors(tmp_path / "m.safetensors", {"x": x[:52]})
    assert tensometer.scan(path, units=True).flags[1].sentence.endswith("; and 1 more group of 52 are identical")


def test_rows_that_are_not_judged(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    short = np.tile(normal(1, 7), (9, 1))
    assert flags(short, units=True) == []
    assert flags(np.tile(normal(1, 8), (9, 1)), units=True) == [("identical_rows", "warning")]
    assert flags(np.tile(normal(1, 8).astype(np.int64), (9, 1)), units=True) == []
    assert flags(np.zeros((9, 8), np.float32), units=True) == [("all_zero", "warning")]
    monkeypatch.setattr(scanner, "MAX_ROWS", 8)
    assert flags(np.tile(normal(1, 8), (9, 1)), units=True) == [("rows_not_judged", "note")]
    monkeypatch.setattr(scanner, "WINDOW", 31)
    assert flags(np.tile(normal(1, 8), (8, 1)), units=True) == [("rows_not_judged", "note")]


def test_rows_of_transposed_tensors(tmp_path: Path) -> None:
    torch.save({"w": torch.from_numpy(damaged().T.copy()).t()}, tmp_path / "m.pt")
    names = [flag.name for flag in tensometer.scan(tmp_path / "m.pt", units=True).flags]
    assert names == ["dead_rows", "constant_rows", "identical_rows"]


def test_tied_tensors_are_noted(tmp_path: Path) -> None:
    x = torch.randn(3, 4)
    torch.save({"a": x, "b": x, "c": x[:2]}, tmp_path / "m.pt")
    flags = tensometer.scan(tmp_path / "m.pt").flags
    assert [(flag.tensor, flag.name, flag.sentence) for flag in flags] == [("b", "tied", "shares its elements with a")]


def test_every_rule_is_listed_once() -> None:
    assert len({(kind.name, kind.severity) for kind in FLAGS}) == len(FLAGS)
    assert {kind.name for kind, _ in RULES} < {kind.name for kind in FLAGS}


def test_the_page_shows_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(kind.name, kind.severity.label, kind.condition) for kind in FLAGS]
