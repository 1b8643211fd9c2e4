"""Keys of rows, made once for all steps."""

from collections.abc import Sequence

from tensometer.store import TensorKey


class Keys:
    """Remembers them: of each list one for all steps that wait to be stored, so that the gaps in the heap can close."""

    def __init__(self) -> None:
        self._lists: dict[tuple[str, str], list[TensorKey]] = {}
        self._scalars: dict[tuple[str, str], TensorKey] = {}
        self._derived: dict[tuple[str, str, str], TensorKey] = {}

    def same_as_before(self, keys: Sequence[TensorKey]) -> Sequence[TensorKey]:
        """The list of the steps before, if it is equal."""
        first = (keys[0].collection, keys[0].name)
        last = self._lists.get(first)
        if last is None or last != keys:
            last = self._lists[first] = list(keys)
        return last

    def scalar(self, collection: str, name: str) -> TensorKey:
        """That of a number."""
        key = self._scalars.get((collection, name))
        if key is None:
            key = self._scalars[collection, name] = TensorKey(name, collection, "float64", ())
        return key

    def derived(self, key: TensorKey, suffix: str) -> TensorKey:
        """That of a number which says something of a tensor."""
        mark = (key.collection, key.name, suffix)
        found = self._derived.get(mark)
        if found is None or (found.facts is not key.facts and found.facts != key.facts):
            name = f"{key.name}/{suffix}"
            found = self._derived[mark] = TensorKey(name, key.collection, "float64", (), key.facts)
        return found

    def units(self, key: TensorKey, axis: int) -> Sequence[TensorKey]:
        """Those of the units of a tensor."""
        shape = key.shape[:axis] + key.shape[axis + 1 :]
        facts = {**key.facts, "units": key.shape[axis]}
        return [TensorKey(f"{key.name}/units", key.collection, key.dtype, shape, facts)] * key.shape[axis]
