"""Other runs that rules compare with."""

from collections.abc import Callable, Iterator

from tensometer.rules.catalogue import Catalogue
from tensometer.rules.step import Step

# The steps of a run by one rank, ascending, with the numbers of that catalogue: rules do not know where runs are.
Load = Callable[[str, int, Catalogue], Iterator[Step]]


def no_runs(url: str, rank: int, catalogue: Catalogue) -> Iterator[Step]:
    """Of an engine that was given nothing to read runs with."""
    raise ValueError(f"{url}: other runs are read beside a Monitor and by tensometer.replay, not here")


class Runs:
    """Steps of other runs, which are asked for in ascending order."""

    def __init__(self, load: Load, catalogue: Catalogue) -> None:
        self._load, self._catalogue = load, catalogue
        self._steps: dict[str, Iterator[Step]] = {}
        self._next: dict[str, Step | None] = {}

    def step(self, url: str, number: int, rank: int) -> Step | None:
        """The step of a run, or None where it has none. What `load` raises, such as FileNotFoundError."""
        if url not in self._steps:
            self._steps[url] = self._load(url, rank, self._catalogue)
            self._next[url] = next(self._steps[url], None)
        found = self._next[url]
        while found is not None and found.number < number:
            found = self._next[url] = next(self._steps[url], None)
        return found if found is not None and found.number == number else None
