"""The steps of a run that another is compared with."""

from collections.abc import Iterator

from tensometer.rules import Step
from tensometer.rules.catalogue import Catalogue
from tensometer.rules.feed import StoredSteps
from tensometer.store import decode_segment, open_place
from tensometer.store.layout import segment_paths
from tensometer.store.listing import about_of


def reference_steps(url: str, rank: int, catalogue: Catalogue) -> Iterator[Step]:
    """The steps of one rank that are stored by now. FileNotFoundError where there is no run."""
    place = open_place(url)
    about_of(place)
    steps = StoredSteps(rank, catalogue)
    for path, writer in segment_paths(place):
        if writer == rank:
            segment = decode_segment(place.read(path), path)
            yield from steps.add(segment.columns, segment.tensors, segment.phases, segment.events)
