"""The command line as a person meets it: formats, exit codes, pipes, terminals, Ctrl-C."""

import csv
import errno
import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import tensometer
from checkpoint_files import write_safetensors, write_sparse
from commands import COMMAND, on_terminal, run
from tensometer import cli
from tensometer.report import FORMATS, SORT_KEYS
from tensometer.scan_report import CHANGES, STATISTICS


def test_version() -> None:
    assert run("--version").stdout == f"tensometer {tensometer.__version__}\n"


def test_table_in_a_pipe(healthy: Path) -> None:
    result = run("scan", healthy)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "name",
        "dtype",
        "shape",
        "min",
        "max",
        "mean",
        "std",
        "l2",
        "zeros",
        "nonfinite",
        "histogram",
        "flags",
    ]
    assert lines[1].split()[:3] == ["b.weight", "float32", "30x40"]
    assert lines[2].split() == ["a.bias", "float32", "30", *["0"] * 5, "30", "0", "all_zero"]
    assert lines[4] == "note [all_zero] a.bias: all 30 elements are zero"
    assert lines[5].startswith("2 tensors, 1230 elements, 4920 bytes in ")
    assert lines[5].endswith(" GB/s): 0 errors, 0 warnings, 1 note")
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 1),
        (("--fail-on", "note"), 1),
        (("--fail-on", "never"), 0),
        (("--filter", "^b", "--fail-on", "warning"), 1),
    ],
)
def test_exit_code_of_a_broken_model(broken: Path, arguments: tuple[str, ...], code: int) -> None:
    assert run("scan", broken, *arguments).returncode == code


@pytest.mark.parametrize(("fail_on", "code"), [("error", 0), ("warning", 0), ("note", 1), ("never", 0)])
def test_exit_code_of_a_note(healthy: Path, fail_on: str, code: int) -> None:
    assert run("scan", healthy, "--fail-on", fail_on).returncode == code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("scan",), "the following arguments are required: PATH"),
        ((), "the following arguments are required: command"),
        (("weigh",), "invalid choice: 'weigh'"),
        (("scan", "{healthy}", "--format", "xml"), "invalid choice: 'xml'"),
        (("scan", "{healthy}", "--sort", "size"), "invalid choice: 'size'"),
        (("scan", "{healthy}", "--fail-on", "warn"), "invalid choice: 'warn'"),
        (("scan", "{healthy}", "--serve-dtype", "int4"), "invalid choice: 'int4'"),
        (("scan", "{healthy}", "--threads", "0"), "argument --threads: must be a positive integer, not '0'"),
        (("scan", "{healthy}", "--threads", "two"), "argument --threads: must be a positive integer, not 'two'"),
        (("scan", "{healthy}", "--filter", "("), "filter '(' is not a regular expression"),
        (("scan", "{healthy}", "--filter", "xyz"), "there is no tensor whose name matches 'xyz'"),
        (("scan", "{healthy}", "missing.pt"), "missing.pt: no such file or directory"),
        (("scan", "{healthy}", "--compare", "missing.pt"), "missing.pt: no such file or directory"),
        (("scan", "{healthy}", "--output", "missing/file"), "there is no folder missing"),
        (("scan", "{healthy}", "--output", "."), "is a folder"),
        (("scan", "{healthy}", "--output", ""), "argument --output/-o: the path is empty"),
        (("scan", "{healthy}", "--output", "x" * 300), f"{'x' * 300}: file name too long"),
        (("scan", "{healthy}", "--output", "/dev/full"), "--output /dev/full: no space left on device"),
        (("scan", "{healthy}", "--\x1b[7m"), r"unrecognized arguments: --\x1b[7m"),
        (("scan", ""), "paths: the path is empty"),
        (("scan", "{healthy}", "--compare", ""), "compare: the path is empty"),
        (("scan", "{healthy}", "--sort", "cosine"), "--sort cosine: there is nothing to sort by without --compare"),
        (("scan", "{healthy}", "--filter", "xyz"), "healthy.safetensors: there is no tensor whose name matches 'xyz'"),
        (("scan", "truncated"), "truncated.safetensors: claims a header of"),
    ],
)
def test_bad_input_is_one_sentence(healthy: Path, arguments: tuple[str, ...], sentence: str) -> None:
    truncated = healthy.parent / "truncated.safetensors"
    truncated.write_bytes(healthy.read_bytes()[:50])
    paths = {"{healthy}": str(healthy), "truncated": str(truncated)}
    result = run(*[paths.get(argument, argument) for argument in arguments])
    assert (result.returncode, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("tensometer")


def test_json(broken: Path) -> None:
    report = json.loads(run("scan", broken, "--units", "--format", "json").stdout, parse_constant=pytest.fail)
    weight, nothing = report["tensors"]
    assert list(weight) == ["name", "file", "dtype", "shape", "nbytes", *STATISTICS, "sparkline", "flags"]
    assert (weight["shape"], weight["nan"], weight["count"]) == ([30, 40], 1, 1200)
    assert weight["flags"] == [
        {"name": "nan", "severity": "error", "sentence": "1 of 1200 elements is NaN"},
        {"name": "dead_rows", "severity": "warning", "sentence": "row 5 of 30 is all zero"},
    ]
    assert (nothing["min"], nothing["mean"], nothing["nan"]) == (None, None, 3)
    assert {**report["totals"], "seconds": 0} == {
        "tensors": 2,
        "skipped": 0,
        "elements": 1203,
        "nbytes": 4824,
        "seconds": 0,
        "worst": "error",
    }


def test_numbers_arrive_whole(broken: Path) -> None:
    (first, *_) = json.loads(run("scan", broken, "--format", "json").stdout)["tensors"]
    statistics = tensometer.scan(broken)["b.weight"].statistics
    assert {name: first[name] for name in STATISTICS} == {name: getattr(statistics, name) for name in STATISTICS}


def test_jsonl(healthy: Path, broken: Path) -> None:
    lines = run("scan", broken, "--compare", healthy, "--format", "jsonl").stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["name"] for record in records] == ["b.weight", "nothing", "a.bias"]
    assert set(CHANGES) < records[0].keys()
    assert records[1]["changed"] is None
    assert records[2]["flags"] == [
        {"name": "missing", "severity": "warning", "sentence": "only the baseline has this tensor"}
    ]


def test_csv(broken: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("scan", broken, "--format", "csv").stdout)))
    assert [(row["name"], row["shape"], row["nan"], row["flags"]) for row in rows] == [
        ("b.weight", "30x40", "1", "nan"),
        ("nothing", "3", "3", "nan"),
    ]
    assert rows[1]["min"] == ""


def test_parquet(broken: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    assert run("scan", broken, "--compare", broken, "--format", "parquet", "--output", target).returncode == 1
    table = pyarrow.parquet.read_table(target)
    assert table.column_names == [
        "name",
        "file",
        "dtype",
        "shape",
        "nbytes",
        *STATISTICS,
        "sparkline",
        "flags",
        *CHANGES,
    ]
    assert table["name"].to_pylist() == ["b.weight", "nothing"]
    assert table["nan"].to_pylist() == [1, 3]
    assert table["min"].to_pylist()[1] is None
    with target.open("wb") as stream:
        subprocess.run([*COMMAND, "scan", str(broken), "--format", "parquet"], stdout=stream, check=False)
    assert pyarrow.parquet.read_table(target).num_rows == 2


@pytest.mark.parametrize("key", SORT_KEYS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_and_sort_key(broken: Path, tmp_path: Path, key: str, name: str) -> None:
    arguments = ["scan", str(broken), "--sort", key, "--format", name, "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, "--compare", str(broken)]) == 1
    assert cli.main([*arguments, "--reverse"]) == (2 if key in CHANGES else 1)


def test_sort(healthy: Path) -> None:
    def names(*arguments: str) -> list[str]:
        lines = run("scan", healthy, "--format", "jsonl", *arguments).stdout.splitlines()
        return [json.loads(line)["name"] for line in lines]

    assert names() == ["b.weight", "a.bias"]
    assert names("--sort", "name") == ["a.bias", "b.weight"]
    assert names("--sort", "zeros") == ["a.bias", "b.weight"]
    assert names("--sort", "zeros", "--reverse") == ["b.weight", "a.bias"]
    assert names("--reverse") == ["b.weight", "a.bias"]


def test_comparison_table(healthy: Path, broken: Path) -> None:
    lines = run("scan", broken, "--compare", healthy).stdout.splitlines()
    assert "1 of 1 compared tensors changed" in lines
    assert "warning [missing] a.bias: only the baseline has this tensor" in lines
    assert "note [added] nothing: the baseline has no tensor of this name" in lines


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_without_block_characters(tmp_path: Path, encoding: str) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"gewicht\u00fc\u4e2d": np.arange(4.0)})
    for name in ("table", "csv"):
        result = run("scan", path, "--format", name, environment={"PYTHONIOENCODING": encoding})
        assert (result.returncode, result.stderr) == (0, "")
        assert r"\u4e2d" in result.stdout
        assert "@" in result.stdout


def test_a_closed_pipe_is_quiet(healthy: Path) -> None:
    with subprocess.Popen([*COMMAND, "scan", str(healthy)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_interrupt(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "large.safetensors", "F32", [1 << 30, 16], 1 << 36)
    with subprocess.Popen([*COMMAND, "scan", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        while "large.safetensors" not in maps.read_text():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        output, errors = process.communicate(timeout=60)
        assert time.monotonic() - begin < 5
    assert (process.returncode, output, errors) == (130, b"", b"tensometer: interrupted\n")


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [("torch", "torch", ["scan", "{torch}"]), ("pyarrow", "parquet", ["scan", "{healthy}", "--format", "parquet"])],
)
def test_missing_extras_are_named(healthy: Path, tmp_path: Path, module: str, extra: str, arguments: list[str]) -> None:
    import torch

    torch.save({"x": torch.zeros(3)}, tmp_path / "x.pt")
    (tmp_path / "blocker" / module).mkdir(parents=True)
    (tmp_path / "blocker" / module / "__init__.py").write_text("raise ImportError('blocked')")
    paths = {"{torch}": tmp_path / "x.pt", "{healthy}": healthy}
    result = run(
        *[paths.get(argument, argument) for argument in arguments],
        environment={"PYTHONPATH": str(tmp_path / "blocker")},
    )
    assert result.returncode == 2
    assert f"needs {module}: pip install 'tensometer[{extra}]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_report_never_replaces_a_checkpoint(healthy: Path, broken: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (healthy, broken)}
    other = tmp_path / "linked"
    other.symlink_to(healthy)
    for output in (healthy, broken, other):
        result = run("scan", healthy, "--compare", healthy, "--output", output)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == f"tensometer: --output {output}: is a checkpoint, which a report would replace\n"
    assert {path: path.read_bytes() for path in before} == before


def test_outputs_that_cannot_be_written_fail_before_the_scan(tmp_path: Path) -> None:
    # The checkpoint does not exist: that it is not what the error is about shows the order.
    missing = tmp_path / "missing.safetensors"
    for output, why in ((tmp_path / "no" / "x", f"there is no folder {tmp_path / 'no'}"), (tmp_path, "is a folder")):
        result = run("scan", missing, "--output", output)
        assert (result.returncode, result.stderr) == (2, f"tensometer: --output {output}: {why}\n")


def test_a_failure_leaves_the_earlier_report(
    healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.txt"
    assert cli.main(["scan", str(healthy), "--output", str(report)]) == 0
    before = report.read_text()

    def failing(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(report))

    monkeypatch.setattr(cli, "write_report", failing)
    assert cli.main(["scan", str(healthy), "--output", str(report)]) == 2
    assert capsys.readouterr().err == f"tensometer: --output {report}: no space left on device\n"
    assert report.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["healthy.safetensors", "report.txt"]


def test_change_rows_of_no_finite_size_come_first(tmp_path: Path) -> None:
    old = {"a": np.float32([1, 2]), "b": np.float32([1, 2]), "c": np.float32([1, 2])}
    new = {"a": np.float32([1, 3]), "b": np.float32([1, np.inf]), "c": np.float32([1, 9])}
    before, after = (write_safetensors(tmp_path / f"{n}.safetensors", x) for n, x in (("old", old), ("new", new)))
    result = run("scan", after, "--compare", before, "--sort", "relative_update", "--format", "jsonl")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["name"] for record in records] == ["b", "c", "a"]
    assert (records[0]["relative_update"], records[0]["nonfinite_changes"]) == (None, 1)
    assert "inf" in run("scan", after, "--compare", before).stdout


def test_rows_of_the_baseline_alone(healthy: Path, broken: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("scan", broken, "--compare", healthy, "--format", "csv").stdout)))
    assert [(row["name"], row["flags"]) for row in rows] == [
        ("b.weight", "nan"),
        ("nothing", "nan added"),
        ("a.bias", "missing"),
    ]
    assert rows[2]["dtype"] == rows[2]["count"] == ""


def test_sorting_by_flags_and_nonfinite(healthy: Path, broken: Path) -> None:
    for key, first in (("flags", "b.weight"), ("nonfinite", "nothing")):
        lines = run("scan", healthy, broken, "--sort", key, "--format", "jsonl").stdout.splitlines()
        assert json.loads(lines[0])["name"] == first


def test_a_scan_that_could_read_nothing(tmp_path: Path) -> None:
    import torch

    torch.save({"x": torch.eye(3).to_sparse()}, tmp_path / "x.pt")
    result = run("scan", tmp_path / "x.pt")
    assert result.returncode == 2
    assert "note [skipped] x: layout sparse_coo is not supported" in result.stdout
    assert result.stderr == f"tensometer: {tmp_path / 'x.pt'}: no tensor could be read; see the flags\n"


def test_an_output_of_the_longest_name(healthy: Path, tmp_path: Path) -> None:
    output = tmp_path / ("x" * 255)
    assert run("scan", healthy, "--output", output).returncode == 0
    assert output.read_text().startswith("name ")


def test_a_dash_is_stdout(healthy: Path) -> None:
    assert run("scan", healthy, "-o", "-").stdout.startswith("name ")


@pytest.mark.parametrize(("closed", "code", "errors"), [(">&-", 2, "standard output is closed"), ("2>&-", 0, "")])
def test_closed_streams(healthy: Path, closed: str, code: int, errors: str) -> None:
    command = " ".join([*COMMAND, "scan", str(healthy), closed])
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert errors in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("streams", [">&- 2>&-", ">/dev/full 2>/dev/full", "--sort nothing 2>/dev/full"])
def test_where_nothing_can_be_said_the_exit_code_says_it(healthy: Path, streams: str) -> None:
    command = " ".join([*COMMAND, "scan", str(healthy), streams])
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 2


def test_a_full_stdout_is_named(healthy: Path) -> None:
    result = subprocess.run(
        ["sh", "-c", " ".join([*COMMAND, "scan", str(healthy), ">/dev/full"])], capture_output=True, check=False
    )
    assert (result.returncode, result.stderr) == (2, b"tensometer: standard output: no space left on device\n")


@pytest.mark.parametrize("module", ["argparse", "numpy"])
def test_interrupt_while_modules_are_imported(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    result = run("scan", "x.npy", environment={"PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "tensometer: interrupted\n")


def test_a_terminal_without_block_characters(tmp_path: Path) -> None:
    tensors = {f"a.{'x' * 90}\u4e2d": np.arange(4.0), "nothing": np.full(3, np.nan)}
    path = write_safetensors(tmp_path / "gewicht\u00fc.safetensors", tensors)
    for columns in ("30", "80", "250"):
        environment = {"PYTHONIOENCODING": "ascii", "COLUMNS": columns}
        code, sent = on_terminal("scan", str(path), "--compare", str(path), environment=environment)
        assert code == 1
        assert r"\u4e2d" in sent.replace("\r\n", "")
        assert "codec" not in sent
        assert sent.isascii()


def test_a_run_cannot_steer_the_terminal(tmp_path: Path) -> None:
    with tensometer.Monitor(tmp_path / "run", every=1) as monitor, monitor.phase("\x1b[7m"):
        monitor.step(**{"loss\x07": 1.0})
    shown = run("ls", tmp_path / "run").stdout + run("show", tmp_path / "run", "loss\x07").stdout
    assert r"\x1b[7m" in shown
    assert r"loss\x07" in shown
    assert not {"\x1b", "\x07"} & set(shown)
