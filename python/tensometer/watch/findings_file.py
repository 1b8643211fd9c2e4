"""findings.jsonl: what was found in a run, so that whoever watches it again does not act on it again."""

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensometer.rules import Finding
from tensometer.store import Place, open_place
from tensometer.store.layout import FINDINGS_FILE

Key = tuple[object, ...]


class FindingsFile:
    """Findings as lines of JSON, as docs/format.md specifies them: in a run, or a file for some runs.

    Locally lines are appended; a bucket knows no appending, and is given the whole file anew. Errors are OSErrors.
    """

    def __init__(self, place: Place, name: str, *, shared: bool) -> None:
        self._place, self._name, self._shared = place, name, shared
        self._lock = threading.Lock()
        self._known: set[Key] | None = None
        self._content = b""

    @classmethod
    def of_run(cls, run: str | os.PathLike[str]) -> "FindingsFile":
        """The one in a run."""
        return cls(open_place(run), FINDINGS_FILE, shared=False)

    @classmethod
    def at(cls, path: Path) -> "FindingsFile":
        """A local file, which several runs may share."""
        return cls(open_place(path.parent), path.name, shared=True)

    def new(self, findings: Iterable[tuple[str, Finding]]) -> list[bool]:
        """Of each finding and its run, whether it is not in the file yet."""
        with self._lock:
            self._known = self._read() if self._known is None else self._known
            return [self._key({**finding.to_dict(), "run": run}) not in self._known for run, finding in findings]

    def add(self, findings: Iterable[tuple[str, Finding]]) -> list[bool]:
        """Write those that are not in the file yet, each with its run; of each whether it was new."""
        with self._lock:
            known = self._read() if self._known is None else self._known
            new, lines, keys = [], [], set[Key]()
            for run, finding in findings:
                values = {**finding.to_dict(), "run": run}
                key = self._key(values)
                new.append(key not in known and key not in keys)
                if new[-1]:
                    keys.add(key)
                    lines.append(json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            # Until it has succeeded nobody knows what the file ends with.
            self._known = None
            if lines:
                self._append(b"".join(lines))
            self._known = known | keys
            return new

    def _key(self, values: dict[str, Any]) -> Key:
        names = ("rule", "rank", "step", "phase", "kind", "tensor", "repeated")
        # In a run's own file the run may have been reached by another path.
        return tuple(str(values.get(name)) for name in (*names, *(("run",) if self._shared else ())))

    def _read(self) -> set[Key]:
        """The keys of all lines that can be read. A watch that was killed may have left half of one."""
        path = None if self._place.folder is None else self._place.folder / self._name
        endless = path is not None and (path.is_char_device() or path.is_fifo())
        try:
            self._content = b"" if endless else self._place.read(self._name)
        except FileNotFoundError:
            self._content = b""
        known = set()
        for line in self._content.splitlines():
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict):
                known.add(self._key(values))
        return known

    def _append(self, lines: bytes) -> None:
        if self._content and not self._content.endswith(b"\n"):
            lines = b"\n" + lines
        if self._place.folder is not None:
            with (self._place.folder / self._name).open("ab") as stream:
                stream.write(lines)
            self._content = lines  # only its end is of interest
        else:
            self._place.write(self._name, self._content + lines, replace=True)
            self._content += lines
