"""Settings of collections that let nothing in: an expression with a slip in it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from tensometer.capture.config import CollectionConfig, MonitorConfig
from tensometer.store import TensorKey

# In so many steps in which it had tensors, a collection let nothing in: then it is told.
_STEPS = 3
_CHOICES = ("include", "exclude", "module_types", "largest")
_DEFAULTS = MonitorConfig().collections


class Unmatched:
    """Tells of collections that were offered tensors and let none in, once each, and early.

    told: called with an error for each.
    """

    def __init__(self, collections: Mapping[str, CollectionConfig], told: Callable[[Exception], None]) -> None:
        self._told = told
        self._offered: set[str] = set()
        self._steps: Counter[str] = Counter()
        self.watch(collections)

    def watch(self, collections: Mapping[str, CollectionConfig]) -> None:
        """These are the settings from now on."""
        # Those with a choice of their own: what the defaults leave out is meant so.
        chosen = {name: _chosen(name, config) for name, config in collections.items()}
        self._watched = {name: words for name, words in chosen.items() if words}

    def saw(self, keys: Sequence[TensorKey], let_in: Iterable[Sequence[int]]) -> None:
        """Tensors were offered, of which some, by their places, were let in."""
        if not self._watched:
            return
        self._offered |= {key.collection for key in keys}
        for name in {keys[at].collection for places in let_in for at in places}:
            self._watched.pop(name, None)

    def end_step(self, steps: int = _STEPS) -> None:
        """A step is over. steps: so many such steps are enough to tell."""
        self._steps.update(self._offered & self._watched.keys())
        self._offered.clear()
        for name in [name for name in self._watched if self._steps[name] >= steps]:
            words = self._watched.pop(name)
            self._told(ValueError(f"collections.{name}: {words}: lets in none of the tensors that there are"))

    def close(self) -> None:
        """There are no more steps."""
        self.end_step(1)


def _chosen(name: str, config: CollectionConfig) -> str:
    default = _DEFAULTS.get(name, CollectionConfig())
    own = [choice for choice in _CHOICES if getattr(config, choice) != getattr(default, choice)]
    return ", ".join(f"{choice} = {getattr(config, choice)!r}" for choice in own)
