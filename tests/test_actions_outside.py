"""Actions that reach beyond the process: webhooks, programs, messages."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from own_rules import TooLarge, finding, write_run
from tensometer import Finding, actions, open_run

SOON = (0.01, 0.01)


class Server:
    """Answers with the given codes, the last of them for ever, and keeps what it was sent."""

    def __init__(self) -> None:
        self.codes, self.bodies, self.delay = [200], list[dict[str, Any]](), 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                time.sleep(outer.delay)
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                code = outer.codes.pop(0) if len(outer.codes) > 1 else outer.codes[0]
                self.send_response(code)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hooks/secret"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def told_of(action: actions.Action, count: int = 1) -> list[str]:
    """What is told of an action that runs for some findings."""
    told: list[str] = []
    runner = actions.Runner([action], run="runs/a", rules=["TooLarge"], told=told.append)
    runner.begin()
    for step in range(count):
        runner.run(finding(step=step))
    time.sleep(0.2)
    runner.close(10.0)
    return told


def test_a_webhook_is_sent_the_finding(server: Server) -> None:
    assert told_of(actions.webhook(server.url)) == []
    (body,) = server.bodies
    assert body == {
        "text": "runs/a: step 0: TooLarge (error): x is 11",
        "run": "runs/a",
        "finding": finding(step=0).to_dict(),
    }


def test_a_webhook_is_tried_again_while_the_server_is_busy(server: Server) -> None:
    server.codes = [503, 429, 200]
    assert told_of(actions.webhook(server.url, pauses=SOON)) == []
    assert len(server.bodies) == 3
    server.codes = [500]
    (sentence,) = told_of(actions.webhook(server.url, pauses=SOON), 2)
    assert "the server answered 500" in sentence
    assert "secret" not in sentence


def test_what_fails_at_the_end_keeps_nothing_else_from_being_done() -> None:
    done: list[int] = []

    def do(finding: Finding, run: str) -> None:
        if finding.step < 3:
            raise OSError("busy")
        done.append(finding.step)

    told: list[str] = []
    action = actions.Action("slow", do, background=True, pauses=(0.3, 60.0))
    runner = actions.Runner([action], run="runs/a", rules=["TooLarge"], told=told.append)
    runner.begin()
    for step in range(6):
        runner.run(finding(step=step))
    runner.close(1.0)
    assert done == [3, 4, 5]
    assert told == ["the action slow failed: it was not done when training ended"]


def test_a_webhook_at_the_end_of_a_training_is_tried_again_within_seconds(server: Server, tmp_path: Path) -> None:
    server.codes = [503, 503, 200]
    write_run(tmp_path, [11.0], rules=[TooLarge()], on_finding=actions.webhook(server.url, pauses=(0.05, 60.0)))
    assert len(server.bodies) == 3
    assert open_run(tmp_path).events("problem") == []


@pytest.mark.parametrize("code", [400, 404, 302])
def test_a_webhook_that_is_refused_is_not_tried_again(server: Server, code: int) -> None:
    server.codes = [code]
    (sentence,) = told_of(actions.webhook(server.url, pauses=SOON))
    assert f"the action webhook http://127.0.0.1 failed: the server answered {code}" in sentence
    assert len(server.bodies) == 1


def test_training_does_not_wait_for_a_webhook(server: Server, tmp_path: Path) -> None:
    server.delay = 0.5
    begin = time.perf_counter()
    hook = actions.webhook(server.url, repeated=True)
    write_run(tmp_path, [11.0], rules=[TooLarge()], on_finding=[hook, lambda _: took.append(time.perf_counter())])
    assert took[0] - begin < 0.4
    assert len(server.bodies) == 1  # the end of the training waits for it


took: list[float] = []


def test_no_server_at_all_is_a_record_in_the_run(server: Server, tmp_path: Path) -> None:
    server.server.shutdown()
    server.server.server_close()
    with pytest.warns(RuntimeWarning, match=r"the action webhook http://127\.0\.0\.1 failed: URLError"):
        write_run(tmp_path, [11.0], rules=[TooLarge()], on_finding=actions.webhook(server.url, pauses=(60.0,)))
    (event,) = open_run(tmp_path).events("problem")
    assert "Connection refused" in event.data["error"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "https://", "host/x", "", 3])
def test_what_is_no_webhook_is_refused(url: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^url: "):
        actions.webhook(url)


def test_a_command_gets_the_finding_on_its_standard_input(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    code = f"import sys; open({str(target)!r}, 'a').write(sys.stdin.read() + chr(10))"
    assert told_of(actions.command([sys.executable, "-c", code]), 2) == []
    bodies = [json.loads(line) for line in target.read_text().splitlines()]
    assert [body["finding"]["step"] for body in bodies] == [0, 1]
    assert bodies[0]["run"] == "runs/a"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("no-such-program x", "command no-such-program failed: cannot be run: No such file or directory"),
        ([sys.executable, "-c", "import sys; sys.exit('it broke')"], "failed: exit code 1: it broke"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "failed: took more than 0.3 seconds"),
    ],
)
def test_a_command_that_fails_is_told(arguments: Any, sentence: str) -> None:
    (told,) = told_of(actions.command(arguments, timeout=0.3 if "time" in str(arguments) else 60))
    assert sentence in told


def test_no_command_is_refused() -> None:
    for nothing in ("", []):
        with pytest.raises(ValueError, match=r"arguments: .* is no program"):
            actions.command(nothing)


# What its plugins import is not ours.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_apprise_delivers(server: Server) -> None:
    pytest.importorskip("apprise")
    url = server.url.replace("http://", "json://")
    assert told_of(actions.notify(url)) == []
    (body,) = server.bodies
    assert body["title"] == "tensometer"
    assert body["message"].splitlines()[0] == "runs/a: step 0: TooLarge (error): x is 11"
    assert "- what to try" in body["message"]
    server.codes = [500]
    (sentence,) = told_of(actions.notify(url, pauses=SOON))
    assert sentence == "the action notify json failed: OSError: apprise could not deliver it"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_url_that_apprise_does_not_know_is_refused_without_its_secrets() -> None:
    pytest.importorskip("apprise")
    with pytest.raises(ValueError, match=r"url: apprise does not understand this URL \(nothing\)$"):
        actions.notify("nothing://token")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: actions.webhook("http://a", pauses=3), "pauses: 3 is not a list of seconds"),  # type: ignore[arg-type]
        (lambda: actions.webhook("http://a", pauses=[-1.0]), "pauses: -1.0 is not a number of seconds from 0"),
        (lambda: actions.webhook("http://a", timeout=0), "timeout: nothing can be done in 0 seconds"),
        (lambda: actions.webhook("http://a", headers={"a": 1}), "headers: .* is not a mapping of texts"),  # type: ignore[dict-item]
        (lambda: actions.webhook("http://a", headers=3), "headers: 3 is not a mapping of texts"),  # type: ignore[arg-type]
        (lambda: actions.command(3), "arguments: 3 is no program with its arguments"),  # type: ignore[arg-type]
        (lambda: actions.notify(3), "url: 3 is neither a URL nor a list of URLs"),  # type: ignore[arg-type]
        (lambda: actions.notify([]), "url: there is none"),
    ],
)
def test_wrong_arguments_are_named(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        make()


def test_what_a_command_has_started_ends_with_it(tmp_path: Path) -> None:
    made = tmp_path / "made"
    run = actions.command(["sh", "-c", f"(sleep 1; touch {made}) & wait"], timeout=0.2)
    with pytest.raises(Exception, match=r"took more than 0\.2 seconds"):
        run.do(finding(), "")
    time.sleep(1.5)
    assert not made.exists()
