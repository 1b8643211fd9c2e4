"""What lies where in a run, as docs/format.md specifies it."""

import re
from collections.abc import Iterator

from tensometer.store.place import Place

RUN_FILE = "run.json"
# A request to the monitors of a run.
STOP_FILE = "stop.json"
# What `tensometer watch` has found.
FINDINGS_FILE = "findings.jsonl"
SUFFIX = ".tmz"
# The kind of the last event of a writer that was closed.
END = "end"
# The kind of the events that say where a raw tensor is.
RAW = "raw"
# Folders are named with five digits.
MOST_RANKS = 100_000

_RANK = re.compile(r"rank-(\d{5})")


def rank_folder(rank: int) -> str:
    """The folder of one writer's segments."""
    return f"rank-{rank:05d}"


def raw_folder(rank: int) -> str:
    """The folder of the tensors that one writer keeps whole."""
    return f"raw-{rank:05d}"


def rank_folders(place: Place) -> dict[int, str]:
    """The folders of all writers, in the order of their ranks."""
    found = ((_RANK.fullmatch(name), name) for name in place.names())
    return {int(match[1]): name for match, name in found if match is not None}


def numbered(place: Place, folder: str) -> list[str]:
    """Names of a folder's segments or raw tensors, in the order of their numbers: of each all that came before it."""
    found = _listed(place, folder)
    if found and len(found) <= segment_number(found[-1]):
        # A listing is no snapshot: it may have missed a file that was written meanwhile, and have met a later one. What
        # came before that is there by now; what a second listing shows beyond it may have such gaps again.
        last = segment_number(found[-1])
        found = sorted({*found, *(name for name in _listed(place, folder) if segment_number(name) <= last)})
    return found


def _listed(place: Place, folder: str) -> list[str]:
    return [name for name in place.names(folder) if name.endswith(SUFFIX) and name[: -len(SUFFIX)].isdecimal()]


def segment_number(name: str) -> int:
    """The number in the name of a segment or raw tensor."""
    return int(name[: -len(SUFFIX)])


def segment_paths(place: Place) -> Iterator[tuple[str, int]]:
    """Segments in the order of their ranks and numbers, with their ranks."""
    for rank, folder in rank_folders(place).items():
        for name in numbered(place, folder):
            yield f"{folder}/{name}", rank
