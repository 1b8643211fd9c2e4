"""Finds a planted fault: a network too deep for its sigmoids, judged while it trains, and again from disk.

The digits are those that scikit-learn ships: 1797 images of 8 x 8 pixels.
"""

import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import tensometer
import torch
from sklearn.datasets import load_digits
from torch import nn

STEPS = 40


def too_deep() -> nn.Sequential:
    """Every sigmoid passes on at most a quarter of the gradient: nothing of it reaches the first layers."""
    widths = [64, *[32] * 10]
    layers = [module for a, b in pairwise(widths) for module in (nn.Linear(a, b), nn.Sigmoid())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    model, loss_module = too_deep(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "too-deep"
        print(f"A network of {len(model) // 2} layers with sigmoids, {STEPS} steps, the default rules beside it:\n")
        with tensometer.Monitor(run, every=1, rules=True, on_finding=tell) as monitor:
            monitor.attach(model, optimizer=optimizer, loss=loss_module)
            for _ in range(STEPS):
                batch = torch.randint(len(x), (128,))
                loss = loss_module(model(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.step(loss=loss)
        command = [sys.executable, "-m", "tensometer", "watch", "--once", str(run)]
        print(f"\n$ tensometer watch --once {run}\n", flush=True)
        code = subprocess.run(command, check=False).returncode
        print(f"\nExit code {code}: there are findings, read from disk by another process.")


def tell(finding: tensometer.Finding) -> None:
    """As it is found."""
    print(finding)
    if finding.severity > tensometer.rules.Severity.INFO:
        print(f"    causes: {'; '.join(finding.causes)}\n    try:    {'; '.join(finding.remedies)}")


if __name__ == "__main__":
    main()
