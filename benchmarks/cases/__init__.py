"""One topic a file; each has CASES, a name -> builder table. A builder makes the tensors of a scale and their sides."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from benchmarks.cases import (
    capture,
    dtypes,
    histograms,
    instruction_sets,
    model,
    pairs,
    quantiles,
    rules,
    runs,
    sizes,
    small,
    summary,
    torch_peers,
)
from benchmarks.harness import Case, Figures
from benchmarks.scale import Scale

Builder: TypeAlias = Callable[[Scale], Case]

CASES: dict[str, Builder] = {
    **summary.CASES,
    **dtypes.CASES,
    **histograms.CASES,
    **torch_peers.CASES,
    **instruction_sets.CASES,
    **small.CASES,
    **quantiles.CASES,
    **pairs.CASES,
    **model.CASES,
    **sizes.CASES,
    **capture.CASES,
    **runs.CASES,
    **rules.CASES,
}
FIGURES: Mapping[str, Callable[[Scale], Figures]] = runs.FIGURES
