"""Where a run goes on: behind the last step that any of its writers reached before this launch."""

import time
from collections.abc import Callable

from tensometer.store.layout import numbered, rank_folder, rank_folders
from tensometer.store.place import Place
from tensometer.store.segment import Segment, SegmentError, decode_segment

# About when this process began: what others have stored since may be of this launch of the run.
_BEGAN = time.time()


class Earlier:
    """What earlier launches of a run left, as a writer that begins finds it.

    step: the last that was reached; -1 if there is none that can be read. launch: a number for this launch. Both may be
    read while look() runs: they are those of the folders read so far, the writer's own first.

    Another writer's segment is of an earlier launch if all in it was recorded before this process began, or if its
    launch is one that this writer has behind it itself. Otherwise it is of a writer that was faster in this launch,
    behind whose steps this one must not begin.
    """

    def __init__(self, place: Place, rank: int, problem: Callable[[str], None]) -> None:
        self.step, self.launch = -1, 0
        self._place, self._rank, self._problem = place, rank, problem

    def look(self) -> None:
        """Read the last segments of every writer. What goes wrong is a problem; no error is raised."""
        # What a store raises is not a closed list.
        try:
            own = rank_folder(self._rank)
            self._take(own, lambda segment: True)
            launch = self.launch
            for folder in rank_folders(self._place).values():
                if folder != own:
                    self._take(folder, lambda segment: segment.launch < launch or _last_time(segment) < _BEGAN)
        except Exception as error:
            self._problem(f"{self._place.url}: cannot be read: {type(error).__name__}: {error}")

    def _take(self, folder: str, earlier: Callable[[Segment], bool]) -> None:
        """The last segment of a folder that can be read and is of an earlier launch."""
        for name in reversed(numbered(self._place, folder)):
            path = f"{folder}/{name}"
            try:
                segment = decode_segment(self._place.read(path), path)
            except SegmentError:
                continue
            if earlier(segment):
                self.step = max(self.step, segment.step)
                self.launch = max(self.launch, segment.launch + 1)
                return


def _last_time(segment: Segment) -> float:
    """When the last of what a segment holds was recorded."""
    return max([float(segment.columns["time"].max(initial=0.0)), *(event.time for event in segment.events)])
