"""Train a small network on handwritten digits under a monitor, then read the run back from disk.

python demo/train_digits.py [RUN]
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensometer
import torch
from sklearn.datasets import load_digits
from torch import nn

EPOCHS = 8
BATCH = 64


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """1797 images of 8x8 pixels from 0 to 1, and what they show; a fifth is kept for validation."""
    data = load_digits()
    order = torch.randperm(len(data.target))
    images = torch.tensor(data.data / 16, dtype=torch.float32)[order]
    labels = torch.tensor(data.target)[order]
    return images[360:], labels[360:], images[:360], labels[:360]


def batches(images: torch.Tensor, labels: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches in a new order, once through the data."""
    for part in torch.randperm(len(images)).split(BATCH):
        yield images[part], labels[part]


def train(place: Path) -> float:
    """An ordinary loop; three lines are the monitor's. Returns the share of validation images that are read right."""
    torch.manual_seed(0)
    images, labels, held_images, held_labels = digits()
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    loss_module = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    accuracy = 0.0
    with tensometer.Monitor(place, every=5) as monitor:  # 1
        monitor.attach(model, optimizer=optimizer, loss=loss_module)  # 2
        for _ in range(EPOCHS):
            for x, y in batches(images, labels):
                optimizer.zero_grad()
                loss = loss_module(model(x), y)
                loss.backward()
                optimizer.step()
                monitor.step(loss=loss, accuracy=accuracy)  # 3
            model.eval()
            with torch.no_grad():
                accuracy = float((model(held_images).argmax(1) == held_labels).double().mean())
            model.train()
    return accuracy


def command_line(*arguments: object) -> None:
    """Run `tensometer` as a person would."""
    print(f"\n$ tensometer {' '.join(map(str, arguments))}\n", flush=True)
    subprocess.run([sys.executable, "-m", "tensometer", *map(str, arguments)], check=True)


def check(place: Path, accuracy: float) -> None:
    """What the run on disk says is what happened."""
    run = tensometer.open_run(place)
    loss = run.series("loss")
    steps = EPOCHS * (1437 // BATCH + 1)
    assert loss.steps.tolist() == list(range(0, steps, 5)), "steps are missing"
    assert loss["mean"][-1] < 0.2 * loss["mean"][0], "the network did not learn"
    assert accuracy > 0.93, f"the network reads {accuracy:.0%} of the digits"
    assert run.series("label")["max"].max() == 9
    assert not run.events("problem"), run.events("problem")
    assert run.ended


def main() -> int:
    """Returns 0 if the run on disk tells of a network that has learned."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(sys.argv[1] if len(sys.argv) > 1 else folder) / "digits"
        accuracy = train(place)
        command_line("ls", place)
        command_line("show", place, "loss", "--last", "5")
        check(place, accuracy)
    print(f"\nThe network reads {accuracy:.1%} of the digits that it has not seen; the run was read back from disk.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
