"""Every instruction set this machine runs, forced, against plain reads (which use whatever their libraries choose)."""

import tensometer

from benchmarks import answers
from benchmarks.data import weights
from benchmarks.harness import Case, Side
from benchmarks.peers import reads
from benchmarks.scale import Scale


def forced(scale: Scale) -> Case:
    x = weights(scale)

    def check() -> None:
        expected = answers.reference(x)
        for name in tensometer.isas():
            with tensometer.isa(name):
                summary = tensometer.summarize(x, histogram=True, threads=1)
            answers.check_summary(name, summary, expected)
            answers.same(f"{name} and the default", summary, tensometer.summarize(x, histogram=True))

    def side(name: str, histogram: bool) -> Side:
        return Side(
            f"{name} with histogram" if histogram else name,
            lambda: tensometer.summarize(x, histogram=histogram, threads=1),
            lambda: tensometer.isa(name),
        )

    ours = tuple(side(name, histogram) for histogram in (False, True) for name in tensometer.isas())
    return Case(x.size, x.nbytes, (*ours, *reads(x)), check)


CASES = {"forced instruction sets": forced}
