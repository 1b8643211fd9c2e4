"""The files of one writer: each appears once, under a number of its own."""

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tensometer._core import __version__
from tensometer.store.layout import RUN_FILE, SUFFIX, numbered
from tensometer.store.place import Place
from tensometer.store.segment import VERSION


class RunFiles:
    """Puts run.json, segments and raw tensors into a place. Every method raises what the place does, and may be tried
    again: nothing is stored twice.

    about: what run.json says beside the versions. TypeError if that is no JSON.
    """

    def __init__(self, place: Place, about: Mapping[str, Any]) -> None:
        self._place = place
        versions = {"tensometer": __version__, "numpy": np.__version__}
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        whole = {"format": VERSION, "created": created, "versions": versions, **about}
        self._about = json.dumps(whole, indent=2).encode() + b"\n"
        self._next: dict[str, int] = {}

    def begin(self) -> None:
        """run.json, by whoever comes first."""
        try:
            self._place.write(RUN_FILE, self._about)
        except FileExistsError:
            self._place.read(RUN_FILE)  # it is there, and nothing is in the way of its folder

    def put(self, folder: str, data: bytes) -> str:
        """A file with the next number of a folder; its path."""
        if folder not in self._next:
            taken = [int(name[: -len(SUFFIX)]) for name in numbered(self._place, folder)]
            self._next[folder] = max(taken, default=-1) + 1
        while True:
            path = f"{folder}/{self._next[folder]:09d}{SUFFIX}"
            try:
                self._place.write(path, data)
            except FileExistsError:
                # Our own, if it was stored and the answer was lost; otherwise someone else's number.
                ours = self._place.read(path) == data
            else:
                ours = True
            self._next[folder] += 1
            if ours:
                return path
