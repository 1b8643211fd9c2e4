"""The cases of `python -m benchmarks` under pytest-benchmark, one group a case, one benchmark a side."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import scale
from benchmarks.cases import CASES
from benchmarks.harness import Case, LeftOutError


def _sides() -> list[tuple[str, str]]:
    """Case and side names; they do not depend on the scale."""
    with scale.smoke() as tiny:
        return [(name, side.name) for name, build in CASES.items() for side in build(tiny).sides]


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    """A case at full size, its answers checked; shared by its sides."""
    try:
        built = CASES[request.param](scale.full(scale.installed_model()))
    except LeftOutError as reason:
        pytest.skip(str(reason))
    built.check()
    return built


@pytest.mark.parametrize(("case", "side"), _sides(), indirect=["case"], scope="module")
def test_side(case: Case, side: str, benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> None:
    benchmark.group = request.node.callspec.params["case"]
    benchmark.extra_info.update(elements=case.elements, nbytes=case.nbytes)
    timed = case.side(side)
    with timed.context():
        benchmark(timed.call)
