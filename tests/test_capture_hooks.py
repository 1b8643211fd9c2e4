"""Hooks are in nobody's way: models under a monitor are copied, saved, compiled and traced as without one."""

import copy
import io
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensometer import Monitor, open_run
from torch import nn
from training import closed, names, network, x_and_y

EVERYTHING = {"activations": True, "updates": True, "optimizer_state": True}


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))  # type: ignore[no-any-return]


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved, torch.optim.swa_utils.AveragedModel])
def test_copies_of_a_model_are_silent(
    every_step: Callable[..., Monitor], tmp_path: Path, copied: Callable[[nn.Module], nn.Module]
) -> None:
    model, loss_module, (x, y) = network(), nn.CrossEntropyLoss(), x_and_y()
    monitor = every_step(collections=EVERYTHING, clipping=True)
    monitor.attach(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), loss=loss_module)
    other, other_loss = copied(model), copy.deepcopy(loss_module)
    outputs = other(x)
    assert torch.equal(outputs, model(x))
    other_loss(outputs, y).backward()
    monitor.step()
    other(x)
    monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("input.0").steps.tolist() == [0]
    assert run.series("0").steps.tolist() == [0]
    assert names(run, "predictions") == []
    assert names(run, "gradients") == []
    assert "gradient_norm_before_clipping" not in names(run, "loop")


def test_a_saved_model_is_loaded_where_there_is_no_tensometer(
    every_step: Callable[..., Monitor], tmp_path: Path
) -> None:
    model = network()
    every_step(collections=EVERYTHING).attach(model)
    torch.save(model, tmp_path / "model.pt")
    code = """
import sys, torch
sys.modules["tensometer"] = None
print(torch.load(sys.argv[1], weights_only=False)(torch.ones(1, 6)).shape)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "model.pt")]
    assert "3" in subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout


def test_copies_of_an_optimizer_are_silent(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = every_step()
    monitor.attach(model, optimizer=optimizer)
    copy.deepcopy(optimizer).step()
    pickle.loads(pickle.dumps(optimizer)).step()
    monitor.step()
    assert closed(monitor, tmp_path).series("optimizer_steps")["mean"].tolist() == [0]


def test_outputs_of_watched_modules_are_saved_without_a_word(tmp_path: Path) -> None:
    model, (x, _) = network(), x_and_y()
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        monitor.attach(model)
        monitor.step(loss=float("nan"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.save(model(x), io.BytesIO())


def module(model: nn.Module, compiler: Callable[[Any], Any]) -> Any:
    return compiler(model)


def function(model: nn.Module, compiler: Callable[[Any], Any]) -> Any:
    return compiler(lambda x: model(x))


@pytest.mark.parametrize("compiled", [module, function])
def test_models_inside_what_is_compiled_as_one_graph(tmp_path: Path, compiled: Callable[..., Any]) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    called = compiled(model, lambda one: torch.compile(one, backend=backend, fullgraph=True))
    with Monitor(tmp_path, every=3, strict=True, collections=EVERYTHING) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for _ in range(9):
            optimizer.zero_grad()
            nn.functional.cross_entropy(called(x), y).backward()
            optimizer.step()
            monitor.step()
    # With hooks and without: they come and go, and nothing is compiled anew each time.
    assert len(graphs) <= 2
    run = open_run(tmp_path)
    assert names(run, "activations") == []
    (told,) = run.events("activations_not_seen")
    assert (told.step, told.data["modules"]) == (0, ["model"])
    for collection in ("weights", "gradients", "updates"):
        assert run.series("0.weight", collection=collection).steps.tolist() == [0, 3, 6]


def test_a_compiled_step_of_the_optimizer(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    torch._dynamo.reset()
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = every_step(collections=EVERYTHING)
    monitor.attach(model, optimizer=optimizer)
    with warnings.catch_warnings():
        # Those of PyTorch about itself; what Dynamo would say of functions that it followed into is not among them.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        step = torch.compile(lambda: optimizer.step(), backend="eager")
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            step()
            monitor.step()
    run = closed(monitor, tmp_path)
    for collection in ("gradients", "updates"):
        assert run.series("0.weight", collection=collection).steps.tolist() == [0, 1, 2]


def test_tracing_and_exporting(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, _) = network(), x_and_y()
    monitor = every_step(collections=EVERYTHING)
    monitor.attach(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(model, x, check_trace=False)  # the check would be a real pass
    exported = torch.export.export(model, (x,)).module()
    assert torch.equal(traced(x), exported(x))
    monitor.step()
    model(x)
    monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("0").steps.tolist() == [1]
    assert run.series("input.0").steps.tolist() == [1]


def test_modules_that_something_stands_for(tmp_path: Path) -> None:
    """As torch.cuda.make_graphed_callables replaces a model's forward(): its own hooks run, those inside do not."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, second = model
    model.forward = lambda x: x @ first.weight.T @ second.weight.T  # type: ignore[method-assign]
    with Monitor(tmp_path, every=1, collections=["activations", "weights"]) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
    (told,) = open_run(tmp_path).events("activations_not_seen")
    assert told.data["modules"] == ["model"]
    assert told.data["why"].startswith("no hook of its modules ran")
