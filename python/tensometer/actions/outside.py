"""Actions that reach beyond the process: they work beside a training and from another machine alike."""

import json
import os
import shlex
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any, Unpack
from urllib.parse import urlsplit

from tensometer._core import __version__
from tensometer.actions.base import Action, Filter, Limits, PermanentError, checked_pauses, checked_timeout
from tensometer.extras import require
from tensometer.rules import Finding, Severity
from tensometer.store import open_place
from tensometer.store.layout import STOP_FILE
from tensometer.store.listing import about_of

# Seconds between attempts at what may be away for a while.
PAUSES = (1.0, 4.0, 16.0, 60.0)
# What a server answers that is busy; other refusals are meant.
_BUSY = (408, 425, 429)


def webhook(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    pauses: Sequence[float] = PAUSES,
    **limits: Unpack[Filter],
) -> Action:
    """POST the finding as JSON: {"text": a sentence, "run": the run's URL, "finding": as in findings.jsonl}.

    Tried again after each of the `pauses` (seconds) while there is no answer or the server is busy. ValueError for a
    URL that is not of http or https.
    """
    if not isinstance(url, str):
        raise TypeError(f"url: {url!r:.100} is not a text")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url: a webhook begins with http:// or https:// and the name of a host")
    seconds, waits = checked_timeout(timeout), checked_pauses(pauses)
    if not isinstance(headers, Mapping | None) or not all(
        isinstance(text, str) for pair in (headers or {}).items() for text in pair
    ):
        raise TypeError(f"headers: {headers!r:.100} is not a mapping of texts")
    told = f"webhook {parts.scheme}://{parts.hostname}"  # without path and query, which are often the password
    more = {"Content-Type": "application/json", "User-Agent": f"tensometer/{__version__}", **(headers or {})}
    opener = urllib.request.build_opener(_NoRedirect)

    def do(finding: Finding, run: str) -> None:
        request = urllib.request.Request(url, body(finding, run), dict(more), method="POST")
        try:
            with opener.open(request, timeout=seconds) as answer:
                answer.read(1 << 16)
        except urllib.error.HTTPError as error:
            error.close()
            sentence = f"the server answered {error.code} {error.reason}"
            raise (OSError if error.code >= 500 or error.code in _BUSY else PermanentError)(sentence) from None
        except HTTPException as error:
            raise OSError(f"the answer is none of HTTP: {error!r:.100}") from None

    return Action(told, do, Limits(**limits), background=True, pauses=waits)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Following would drop the body: the answer is then an error as any other."""

    def redirect_request(self, *_: Any) -> None:
        """None: do not follow."""


def body(finding: Finding, run: str) -> bytes:
    """What webhooks and commands get."""
    return json.dumps({"text": _text(finding, run), "run": run, "finding": finding.to_dict()}).encode()


def _text(finding: Finding, run: str) -> str:
    return f"{run}: {finding}" if run else str(finding)


def command(arguments: str | Sequence[str], *, timeout: float = 60.0, **limits: Unpack[Filter]) -> Action:
    """Run a program with the JSON of webhook() on its standard input.

    arguments: a list, or a text that is split as a shell would; there is no shell. Another exit code than 0, or more
    than `timeout` seconds (then it is killed, with all that it has started), is a failure.
    """
    seconds = checked_timeout(timeout)
    try:
        given = shlex.split(arguments) if isinstance(arguments, str) else arguments
    except ValueError as error:
        raise ValueError(f"arguments: {arguments!r:.100}: {error}") from None
    if not isinstance(given, list | tuple) or not given or not all(isinstance(one, str) for one in given):
        raise ValueError(f"arguments: {arguments!r:.100} is no program with its arguments")

    def do(finding: Finding, run: str) -> None:
        code, said = _finished(list(given), body(finding, run), seconds)
        if code:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise PermanentError(f"exit code {code}" + (f": {last:.200}" if last else ""))

    return Action(f"command {os.path.basename(given[0])}", do, Limits(**limits), background=True)  # noqa: PTH119


def _finished(arguments: Sequence[str], given: bytes, seconds: float) -> tuple[int, bytes]:
    """Run a program to its end; its exit code, and what it has said on its standard error."""
    pipe = subprocess.PIPE
    try:
        # A session of its own, so that what it starts can be killed with it.
        process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as error:
        raise PermanentError(f"cannot be run: {error.strerror}") from None
    with process:
        try:
            _, said = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise PermanentError(f"took more than {seconds:g} seconds") from None
    return process.returncode, said


def notify(
    url: str | Sequence[str], *, title: str = "tensometer", pauses: Sequence[float] = PAUSES, **limits: Unpack[Filter]
) -> Action:
    """Tell people by e-mail, SMS, chat and whatever else the apprise library knows by URLs such as `mailto://`.

    ImportError without that library, ValueError for a URL that it does not know.
    """
    if not isinstance(url, str | list | tuple):
        raise TypeError(f"url: {url!r:.100} is neither a URL nor a list of URLs")
    urls, waits = [url] if isinstance(url, str) else list(url), checked_pauses(pauses)
    if not urls:
        raise ValueError("url: there is none")
    apprise = require("apprise", extra="notify", purpose="notify()")
    sender = apprise.Apprise()
    for one in urls:
        if not isinstance(one, str) or not sender.add(one):
            kind = one.partition("://")[0] if isinstance(one, str) and "://" in one else "without ://"
            raise ValueError(f"url: apprise does not understand this URL ({kind:.20})")
    kinds = ", ".join(one.partition("://")[0] for one in urls)

    def do(finding: Finding, run: str) -> None:
        bad = finding.severity >= Severity.ERROR
        causes = "\n".join(f"- {one}" for one in (*finding.causes, *finding.remedies))
        message = _text(finding, run) + (f"\n{causes}" if causes else "")
        kind = apprise.NotifyType.FAILURE if bad else apprise.NotifyType.WARNING
        if not sender.notify(title=title, body=message, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
            raise OSError("apprise could not deliver it")

    return Action(f"notify {kinds}", do, Limits(**limits), background=True, pauses=waits)


def signal_process(process: int, number: int = signal.SIGTERM, **limits: Unpack[Filter]) -> Action:
    """Send a signal to a process of this machine. severity: by default "error"."""
    if isinstance(process, bool) or not isinstance(process, int):
        raise TypeError(f"process: {process!r} is not the number of a process")
    if process < 2:  # 0 and less are groups of processes, 1 is the first of all
        raise ValueError(f"process: {process} is not the number of a process")
    try:
        chosen = signal.Signals(number)
    except ValueError:
        raise ValueError(f"number: {number!r} is no signal") from None
    given = Limits.of(limits, severity=Severity.ERROR)
    return Action(f"signal {chosen.name} to {process}", lambda finding, run: os.kill(process, chosen), given)


def request_stop(run: str | os.PathLike[str] = "", **limits: Unpack[Filter]) -> Action:
    """Ask for the end of a run through a file in it, which every monitor of the run sees at its next step.

    run: by default the one that the finding is of; then a launch that has begun behind the finding's step goes on, as
    it is not what was found wrong. severity: by default "error".
    """
    other = os.fspath(run)

    def do(finding: Finding, url: str) -> None:
        ask_to_stop(other or url, str(finding), step=None if other else finding.step)

    given = Limits.of(limits, severity=Severity.ERROR)
    return Action("request_stop", do, given, background=True, pauses=PAUSES)


def ask_to_stop(run: str | os.PathLike[str], reason: str, *, step: int | None = None) -> None:
    """Leave the request in a run; see docs/format.md. FileNotFoundError where there is none, OSError if that fails.

    step: what the request is about: a launch of the run that begins behind it does not heed it.
    """
    place = open_place(run)
    about_of(place)
    request = {"request": "stop", "reason": reason, "time": time.time(), "id": uuid.uuid4().hex}
    if step is not None:
        request["step"] = step
    place.write(STOP_FILE, json.dumps(request).encode() + b"\n", replace=True)
