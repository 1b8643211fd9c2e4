"""Two processes that train one model together, under one run."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tensometer
import torch
from tensometer import open_run
from torch import nn
from training import l2, network, x_and_y

TRAINING = """
import sys
import tensometer, torch
import torch.distributed as distributed
from torch import nn
from training import network, x_and_y

distributed.init_process_group("gloo")
rank = distributed.get_rank()
torch.set_num_threads(1)
model = network()
if sys.argv[2] == "ddp":
    model = nn.parallel.DistributedDataParallel(model)
else:
    from torch.distributed.fsdp import fully_shard
    mesh = distributed.device_mesh.init_device_mesh("cpu", (2,))
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
x, y = x_and_y()
x, y = x[4 * rank : 4 * rank + 4], y[4 * rank : 4 * rank + 4]
collections = {"updates": True, "optimizer_state": True, "activations": True}
with tensometer.Monitor(sys.argv[1], every=1, strict=True, collections=collections, clipping=True) as monitor:
    monitor.attach(model, optimizer=optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        monitor.step(loss=loss)
distributed.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def trained_by_two(place: Path, how: str) -> tensometer.Run:
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(place), how],
            env=os.environ | shared | {"RANK": str(rank), "PYTHONPATH": str(Path(__file__).parent)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return open_run(place)


def trained_alone() -> tuple[list[dict[str, torch.Tensor]], list[dict[str, torch.Tensor]]]:
    """Weights and gradients after each step on the whole batch."""
    model, (x, y) = network(), x_and_y()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    weights, gradients = [], []
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        optimizer.step()
        weights.append({n: p.detach().clone() for n, p in model.named_parameters()})
    return weights, gradients


def test_replicas(tmp_path: Path) -> None:
    run = trained_by_two(tmp_path / "run", "ddp")
    weights, gradients = trained_alone()
    assert run.ranks == [0, 1]
    assert run.events("problem") == []
    assert run.about["world_size"] == 2
    for rank in (0, 1):
        series = run.series("0.weight", collection="weights", rank=rank)
        assert series.key.facts["placement"] == {"kind": "replicate"}
        assert series["l2"].tolist() == pytest.approx([l2(step["0.weight"]) for step in weights], rel=1e-5)
        # Gradients are those that all processes agreed on, before clipping too.
        gradient = run.series("0.weight", collection="gradients", rank=rank)
        assert gradient["l2"].tolist() == pytest.approx([l2(step["0.weight"]) for step in gradients], rel=1e-5)
        norms = [
            run.series(name, rank=rank)["mean"].tolist() for name in ("gradient_norm", "gradient_norm_before_clipping")
        ]
        assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    first, second = (run.series("0.weight", collection="weights", rank=rank)["l2"].tolist() for rank in (0, 1))
    assert first == second
    assert run.replicas("0.weight", collection="weights") == []
    losses = [run.series("loss", rank=rank)["mean"].tolist() for rank in (0, 1)]
    assert losses[0] != losses[1]  # each saw its own half of the batch


def test_shards(tmp_path: Path) -> None:
    run = trained_by_two(tmp_path / "run", "fsdp")
    weights, gradients = trained_alone()
    assert run.events("problem") == []
    for name in ("0.weight", "2.weight", "2.bias"):
        collection = "biases" if name.endswith("bias") else "weights"
        for of, expected in ((collection, weights), ("gradients", gradients)):
            parts = [run.series(name, collection=of, rank=rank) for rank in (0, 1)]
            for rank, part in enumerate(parts):
                whole = list(expected[0][name].shape)
                assert part.key.facts["placement"] == {"kind": "shard", "index": rank, "of": 2, "shape": whole}
            for step in range(3):
                assert sum(int(part["count"][step]) for part in parts) == expected[step][name].numel()
                total = sum(float(part["l2"][step]) ** 2 for part in parts) ** 0.5
                assert total == pytest.approx(l2(expected[step][name]), rel=1e-4)
    whole = run.merged("0.weight", collection="weights")
    assert whole.key.shape == (5, 6)
    assert whole["l2"].tolist() == pytest.approx([l2(step["0.weight"]) for step in weights], rel=1e-4)
    assert whole["max"].tolist() == pytest.approx([step["0.weight"].max().item() for step in weights], rel=1e-4)
    update = run.series("0.weight/changed_fraction", rank=1)
    assert update["mean"].tolist() == [1, 1, 1]
    assert run.series("0.weight.exp_avg", rank=0).key.facts["placement"]["kind"] == "shard"


MESHES = """
import sys
import tensometer, torch
import torch.distributed as distributed
from torch import nn
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

distributed.init_process_group("gloo")
line, plane = init_device_mesh("cpu", (1,)), init_device_mesh("cpu", (1, 1), mesh_dim_names=("a", "b"))
model = nn.ParameterList([
    nn.Parameter(distribute_tensor(torch.ones(4, 4), line, [Shard(0)])),
    nn.Parameter(distribute_tensor(torch.ones(4, 4), plane, [Shard(0), Shard(1)])),
])
optimizer = torch.optim.AdamW([{"params": [one]} for one in model], fused=True)
scaler = torch.amp.GradScaler("cpu")
with tensometer.Monitor(sys.argv[1], every=1, strict=True, collections=["gradients"]) as monitor:
    monitor.attach(model, optimizer=optimizer, scaler=scaler)
    first, second = (one.to_local() for one in model)
    scaler.scale((first + 2 * second).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    monitor.step()
distributed.destroy_process_group()
"""


def test_gradients_on_several_meshes_are_unscaled(tmp_path: Path) -> None:
    shared = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-c", MESHES, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | shared, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path)
    assert [float(run.series(name, collection="gradients")["max"][0]) for name in ("0", "1")] == [1.0, 2.0]
