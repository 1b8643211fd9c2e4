"""The command line on a terminal: colours, widths, and names that would steer it."""

import re
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import write_safetensors, write_sparse
from commands import on_terminal, run


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"\x1b[31m[red]x\n\u202e": np.zeros((2, 2), np.float32)})
    output = run("scan", path).stdout
    assert r"\x1b[31m[red]x\n\u202e" in output
    assert "\x1b" not in output
    assert r"\x1b[31m[red]x\n" in on_terminal("scan", str(path))[1].replace("\x1b[0m", "")


def test_terminal_has_colours_and_a_progress_bar(broken: Path, tmp_path: Path) -> None:
    code, sent = on_terminal("scan", str(broken))
    assert code == 1
    assert "b.weight" in sent
    assert "error [nan] b.weight: 1 of 1200 elements is NaN" in sent
    assert "\x1b[1;31m" in sent
    large = write_sparse(tmp_path / "large.safetensors", "F32", [64, 1 << 20], 1 << 28)
    assert "scanning" in on_terminal("scan", str(large))[1]


def test_terminal_without_rich(broken: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    (blocker / "rich").mkdir(parents=True)
    (blocker / "rich" / "__init__.py").write_text("raise ImportError('blocked')")
    code, sent = on_terminal("scan", str(broken), environment={"PYTHONPATH": str(blocker)})
    assert code == 1
    assert "error [nan] b.weight: 1 of 1200 elements is NaN" in sent
    assert "\x1b" not in sent


def test_parquet_does_not_go_to_a_terminal(broken: Path) -> None:
    code, sent = on_terminal("scan", str(broken), "--format", "parquet")
    assert code == 2
    assert "parquet is a binary format" in sent


LONG = "encoder.layer.{}.attention.output.LayerNorm.weight"


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 200])
def test_names_are_told_apart_at_every_width(tmp_path: Path, columns: int, rng: np.random.Generator) -> None:
    tensors = {LONG.format(i): rng.standard_normal((384, 1536)).astype(np.float32) for i in range(3)}
    path = write_safetensors(tmp_path / "m.safetensors", tensors | {"b": np.zeros(3, np.float32)})
    code, sent = on_terminal("scan", str(path), environment={"COLUMNS": str(columns)})
    assert code == 0
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip() for line in sent.splitlines()]
    table = [line for line in lines if "weight" in line]
    assert len(table) == 3  # a row a tensor, nothing folded
    assert all(len(line) <= columns for line in table)
    for heading in ("name", "min", "max", "flags"):
        assert any(heading in line.split() for line in lines)
    hidden = [line for line in lines if line.startswith("not shown at this width: ")]
    assert bool(hidden) == (columns < 160)
    if columns == 200:
        assert LONG.format(2) in sent


def test_csv_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"\x1b[7mred\x07": np.ones(4, np.float32)})
    assert "\x1b[7m" not in on_terminal("scan", str(path), "--format", "csv")[1]
    assert "\x1b[7mred\x07" in run("scan", path, "--format", "csv").stdout


def test_errors_cannot_steer_the_terminal(tmp_path: Path) -> None:
    index = tmp_path / "m.safetensors.index.json"
    index.write_text('{"weight_map": {"w": "\\u001b[7mx\\u0007.safetensors"}}')
    wrong = (str(index),), ("\x1b[7m\x07.pt",), (str(index), "--output", "\x1b[7m/x")
    for arguments in wrong:
        code, sent = on_terminal("scan", *arguments)
        assert code == 2
        assert "\x1b[7m" not in sent
        assert "\x07" not in sent
