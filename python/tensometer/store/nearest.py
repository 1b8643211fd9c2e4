"""What a person may have meant by a name that is not there."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that names up to three names like it; empty if there are none."""
    found = difflib.get_close_matches(name, list(dict.fromkeys(known)), 3)
    return f"; the nearest are {', '.join(found)}" if found else ""


def check_known(what: str, value: object, known: Iterable[object]) -> None:
    """KeyError if a value is not among those known; it names those nearest to it, or some of all."""
    names = list(dict.fromkeys(known))
    if value in names:
        return
    listed = ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")
    near = nearest(str(value), map(str, names)) or (f"; there are {listed}" if names else "; nothing is recorded yet")
    raise KeyError(f"{what}: {value!r} is not in the run{near}")
