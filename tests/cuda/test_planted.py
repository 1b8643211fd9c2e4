"""Each planted bug is found by the layer that must find it, by what it says; without the bug nothing is found."""

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

import pytest
from planted import BUGS, Bug
from planting import LAYERS, ROOT, Outcome, try_layer

Outcomes = dict[str, Future[Outcome]]


def name_of(bug: Bug) -> str:
    return f"{bug.name}: {bug.layer}"


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """Of each test that was asked for, by its name: as many at a time as there are cores, in the order of the tests."""
    folder = tmp_path_factory.mktemp("planted")  # here: two threads would make pytest's own folder twice
    chosen = {item.name.partition("[")[2][:-1] for item in request.session.items if item.path == request.path}

    def outcome(layer: str, bugs: list[Bug], planted: bool) -> Outcome:
        tree = Path(mkdtemp(dir=folder))
        try:
            return try_layer(layer, bugs, tree, planted)
        finally:
            shutil.rmtree(tree)

    pool = ThreadPoolExecutor(os.cpu_count())
    futures: Outcomes = {}
    for layer in (layer for layer in LAYERS if layer in chosen):
        futures[layer] = pool.submit(outcome, layer, [bug for bug in BUGS if bug.layer == layer], False)
    for bug in (bug for bug in BUGS if name_of(bug) in chosen):
        futures[name_of(bug)] = pool.submit(outcome, bug.layer, [bug], True)
    yield futures
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_is_found_without_a_bug(layer: str, outcomes: Outcomes) -> None:
    found = outcomes[layer].result()
    assert found.passed, found.text


@pytest.mark.parametrize("bug", BUGS, ids=name_of)
def test_planted(bug: Bug, outcomes: Outcomes) -> None:
    found = outcomes[name_of(bug)].result()
    assert not found.passed, f"nothing was found:\n{found.text}"
    assert re.search(bug.message, found.text), f"nothing like '{bug.message}' was said:\n{found.text}"


def test_make_names_every_file_here() -> None:
    patterns = re.findall(r"tests/cuda/(test_[\w*]+\.py)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    named = {path.name for pattern in patterns for path in Path(__file__).parent.glob(pattern)}
    assert named == {path.name for path in Path(__file__).parent.glob("test_*.py")}
