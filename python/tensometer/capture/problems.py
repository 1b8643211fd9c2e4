"""What goes wrong with capture: told in the run, and not to the training loop."""

from collections.abc import Callable

from tensometer.notices import warn

# So many different problems are told in the run; there is one warning.
_MOST_PROBLEMS = 100


class Problems:
    """Tells of errors, each once, and of the first in a warning too; raises them if `strict`.

    tell: called with a sentence for the run. step: the number of the present step.
    """

    def __init__(self, strict: bool, tell: Callable[[str], None], step: Callable[[], int]) -> None:
        self.strict, self._tell, self._step = strict, tell, step
        self._told: set[str] = set()

    def failed(self, error: Exception, what: str = "") -> None:
        """An error of capture."""
        if self.strict:
            raise error
        sentence = f"{type(error).__name__}: {what}{error}"
        if sentence in self._told or len(self._told) == _MOST_PROBLEMS:
            return
        self._told.add(sentence)
        self._tell(sentence)
        if len(self._told) == 1:
            warn(f"step {self._step()} could not be captured: {sentence}; training goes on")

    def misused(self, error: Exception) -> None:
        """What only a person can mend: told each time."""
        if self.strict:
            raise error
        self._tell(f"{type(error).__name__}: {error}")
        warn(f"{error}; training goes on")
