"""`tensometer watch` as a person meets it: what it prints, its exit codes, a terminal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import COMMAND, on_terminal, run
from own_rules import write_run
from tensometer import Monitor

OWN = Path(__file__).parent / "own_rules.py"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Settings of rules: those of these tests alone."""
    path = tmp_path / "rules.toml"
    path.write_text(f"files = [{json.dumps(str(OWN))}]\nonly = ['TooLarge']\n")
    return path


def test_findings_and_exit_codes(tmp_path: Path, rules: Path) -> None:
    write_run(tmp_path / "bad", [1.0, 11.0])
    write_run(tmp_path / "good", [1.0])
    bad, good = str(tmp_path / "bad"), str(tmp_path / "good")
    result = run("watch", "--once", "--rules", rules, bad)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.splitlines() == [
        "step 1: error [TooLarge] x is 11",
        f"{bad}: 1 finding (1 error) in 2 steps",
    ]
    result = run("watch", "--rules", rules, bad, good)  # runs that have ended are not waited for
    assert result.returncode == 1
    assert f"{bad}: step 1: error [TooLarge] x is 11" in result.stdout
    assert f"{good}: no findings in 1 step\n" in result.stdout
    for options, code in (([good], 0), ([bad, "--fail-on", "fatal"], 0), ([bad, "--fail-on", "never"], 0)):
        assert run("watch", "--once", "--rules", rules, *options).returncode == code


def test_default_rules_need_no_choice(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0])
    result = run("watch", "--once", tmp_path)
    assert result.returncode == 0
    assert result.stdout.endswith("in 1 step\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--once", "missing"], "missing: there is no run here (no run.json)"),
        (["--once", "{latin}"], "latin.toml: not a directory\n"),
        (["--timeout", "0.2", "missing"], "missing: there is no run yet, after 0.2 seconds"),
        (["--timeout", "-1", "{run}"], "must be a positive number of seconds, not '-1'"),
        (["--rules", "missing.toml", "{run}"], "missing.toml: no such file or directory"),
        (["--rules", "{broken}", "{run}"], "AllZero: 'sahre' is unknown; did you mean 'share'?"),
        (["--rules", "{wrong}", "{run}"], "AllZero.share: 'much' is not a number"),
        (["--rules", "{none}", "{run}"], "none.toml leaves no rule on"),
        (["--webhook", "host/x", "{run}"], "--webhook: url: a webhook begins with http://"),
        (["--notify", "nothing://secret", "{run}"], "--notify: url: apprise does not understand this URL (nothing)"),
        (["--command", "", "{run}"], "--command: arguments: '' is no program"),
        (["--command", 'x "', "{run}"], """--command: arguments: 'x "': No closing quotation"""),
        (
            ["--findings", "no/such/folder.jsonl", "{run}"],
            "--findings no/such/folder.jsonl: there is no folder no/such",
        ),
        (["--rules", "{latin}", "{run}"], "latin.toml: is not UTF-8 (byte 0xe9 at 3)"),
        ([""], "url: the path is empty"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    write_run(tmp_path / "run", [1.0])
    (tmp_path / "broken.toml").write_text("[AllZero]\nsahre = 1.0\n")
    (tmp_path / "wrong.toml").write_text("[AllZero]\nshare = 'much'\n")
    (tmp_path / "none.toml").write_text("only = []\n")
    (tmp_path / "latin.toml").write_bytes(b"#  \xe9\n")
    places = {f"{{{name}}}": str(tmp_path / path) for name, path in _PLACES.items()}
    result = run("watch", *[places.get(argument, argument) for argument in arguments])
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stderr


_PLACES = {"run": "run", "broken": "broken.toml", "wrong": "wrong.toml", "latin": "latin.toml", "none": "none.toml"}


def test_a_file_of_rules_that_is_broken_is_one_sentence(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [1.0])
    (tmp_path / "own.py").write_text("1 / 0\n")
    (tmp_path / "rules.toml").write_text("files = ['own.py']\n")
    result = run("watch", "--once", "--rules", tmp_path / "rules.toml", tmp_path / "run")
    assert result.returncode == 2
    assert "own.py: ZeroDivisionError: division by zero" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_rule_that_raises_is_no_success(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [1.0])
    (tmp_path / "own.py").write_text(
        "import tensometer\n@tensometer.rules.register\nclass Wrong(tensometer.Rule):\n    needs = ('custom',)\n"
        "    def check(self, step, state):\n        return [1 / 0]\n"
    )
    (tmp_path / "rules.toml").write_text("files = ['own.py']\nonly = ['Wrong']\n")
    result = run("watch", "--once", "--rules", tmp_path / "rules.toml", tmp_path / "run")
    assert result.returncode == 2
    assert result.stdout == f"{tmp_path / 'run'}: no findings in 1 step\n"
    assert "rules that were asked no more, as they raised an exception: Wrong" in result.stderr


def test_actions_of_the_command_line(tmp_path: Path, rules: Path) -> None:
    write_run(tmp_path / "run", [11.0])
    code = f"import sys; open({str(tmp_path / 'told')!r}, 'a').write(sys.stdin.read())"
    command = f'{sys.executable} -c "{code}"'
    for _ in range(2):
        options = ["--once", "--rules", rules, "--command", command, "--stop-training"]
        assert run("watch", *options, tmp_path / "run").returncode == 1
    assert json.loads((tmp_path / "told").read_text())["finding"]["rule"] == "TooLarge"  # told once
    assert json.loads((tmp_path / "run" / "stop.json").read_text())["request"] == "stop"
    (tmp_path / "run" / "findings.jsonl").unlink()
    run("watch", "--once", "--rules", rules, "--command", command, "--act-on", "fatal", tmp_path / "run")
    assert len((tmp_path / "told").read_text().splitlines()) == 1


def write_steering(path: Path) -> None:
    with Monitor(path, every=1, collections=["custom"]) as monitor:
        monitor.record("\x1b[31m[red]x\n\u202e", np.full(4, 11.0, np.float32))
        monitor.step()


def test_names_cannot_steer_the_terminal(tmp_path: Path, rules: Path) -> None:
    write_steering(tmp_path / "run")
    output = run("watch", "--once", "--rules", rules, tmp_path / "run").stdout
    assert r"\x1b[31m[red]x\n\u202e is 11" in output
    assert "\x1b" not in output
    pytest.importorskip("rich")
    sent = on_terminal("watch", "--rules", str(rules), str(tmp_path / "run"))[1]
    assert r"\x1b[31m[red]x\n\u202e is 11" in sent
    assert "\x1b[31m[red]" not in sent


def plain(sent: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sent)


def test_a_terminal_shows_tables(tmp_path: Path, rules: Path) -> None:
    pytest.importorskip("rich")
    write_run(tmp_path / "a", [11.0] * 7)
    write_run(tmp_path / "b", [1.0] * 3)
    code, sent = on_terminal("watch", "--rules", str(rules), str(tmp_path / "a"), str(tmp_path / "b"))
    assert code == 1
    text = plain(sent)
    assert "\x1b[" in sent
    assert text.count("a: step 0: error [TooLarge] x is 11") == 1
    assert "step 5" not in text  # what goes on is counted
    assert re.search(r"a +6 +1 +2 errors +ended", text)
    assert re.search(r"error +TooLarge +1 +x +0 - 5 +x is 11", text)
    assert "b: no findings in 3 steps" in text


def test_a_terminal_without_rich(tmp_path: Path, rules: Path) -> None:
    (tmp_path / "blocker" / "rich").mkdir(parents=True)
    (tmp_path / "blocker" / "rich" / "__init__.py").write_text("raise ImportError('blocked')")
    write_run(tmp_path / "run", [11.0])
    environment = {"PYTHONPATH": str(tmp_path / "blocker")}
    code, sent = on_terminal("watch", "--rules", str(rules), str(tmp_path / "run"), environment=environment)
    assert code == 1
    assert "step 0: error [TooLarge] x is 11" in sent
    assert "\x1b" not in sent


@pytest.mark.parametrize("blocked", ["watchfiles", "apprise"])
def test_missing_extras(tmp_path: Path, rules: Path, blocked: str) -> None:
    (tmp_path / "blocker").mkdir()
    (tmp_path / "blocker" / f"{blocked}.py").write_text("raise ImportError('blocked')")
    write_run(tmp_path / "run", [11.0])
    environment = {"PYTHONPATH": str(tmp_path / "blocker")}
    assert run("watch", "--rules", rules, tmp_path / "run", environment=environment).returncode == 1
    result = run("watch", "--notify", "json://localhost", tmp_path / "run", environment=environment)
    assert ("pip install 'tensometer[notify]'" in result.stderr) is (blocked == "apprise")


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_end_it_with_what_was_found(
    tmp_path: Path, rules: Path, number: signal.Signals, code: int, word: str
) -> None:
    command = [*COMMAND, "watch", "--rules", str(rules), str(tmp_path / "run")]
    with Monitor(tmp_path / "run", every=1, collections=["custom"], flush_seconds=0.02) as monitor:
        monitor.record("x", np.full(4, 11.0, np.float32))
        monitor.step()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "step 0: error [TooLarge] x is 11\n"
            process.send_signal(number)
            begin = time.monotonic()
            output, errors = process.communicate(timeout=30)
            assert time.monotonic() - begin < 5
    assert (process.returncode, output, errors) == (code, "", f"tensometer: {word}\n")
    assert len((tmp_path / "run" / "findings.jsonl").read_text().splitlines()) == 1


def test_a_signal_gives_the_terminal_back(tmp_path: Path, rules: Path) -> None:
    pytest.importorskip("rich")
    code, text = on_terminal("watch", "--rules", str(rules), str(tmp_path / "run"), end=("\x1b[?25l", signal.SIGTERM))
    assert code == 143
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown


def test_a_closed_pipe_is_quiet(tmp_path: Path, rules: Path) -> None:
    write_run(tmp_path / "run", [11.0] * 100)
    command = [*COMMAND, "watch", "--once", "--rules", str(rules), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
