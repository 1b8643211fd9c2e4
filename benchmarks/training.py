"""The networks whose training is watched, and the monitor that a user would write by hand."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Training:
    """A model, its optimizer and one batch; step() trains on it once and returns the loss."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: nn.Module
    x: torch.Tensor
    y: torch.Tensor

    def step(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss: torch.Tensor = self.loss(self.model(self.x), self.y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss


class Classifier(nn.Module):
    """A transformer encoder over tokens, its mean read by a linear layer."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.encoder(self.embedding(tokens)).mean(1))
        return result


def mlp(*, tiny: bool) -> Training:
    """4 million parameters, batches of 256."""
    hidden = (32, 32, 16) if tiny else (1500, 1500, 400)
    sizes = (784, *hidden, 10)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return _training(nn.Sequential(*layers[:-1]), torch.randn(8 if tiny else 256, 784))


def cnn(*, tiny: bool) -> Training:
    """Three convolutions over images of 32 x 32."""
    wide = 4 if tiny else 32
    layers = (
        *(nn.Conv2d(3, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(wide, 2 * wide, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(2 * wide, 2 * wide, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * wide * 36, 10)),
    )
    return _training(nn.Sequential(*layers), torch.randn(2 if tiny else 64, 3, 32, 32))


def transformer(*, tiny: bool) -> Training:
    """5 million parameters, 16 sequences of 64 tokens."""
    model = Classifier(16 if tiny else 256, 1 if tiny else 6)
    return _training(model, torch.randint(1000, (2, 8) if tiny else (16, 64)))


NETWORKS: dict[str, Callable[..., Training]] = {"MLP": mlp, "CNN": cnn, "transformer": transformer}


def _training(model: nn.Module, x: torch.Tensor) -> Training:
    y = torch.randint(10, (len(x),))
    return Training(model, torch.optim.Adam(model.parameters(), 1e-3), nn.CrossEntropyLoss(), x, y)


class ByHand:
    """NumPy reductions of weights and gradients after every step, as one would write them."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.rows: list[dict[str, Any]] = []

    def step(self) -> None:
        for name, parameter in self._model.named_parameters():
            for kind, tensor in (("weight", parameter), ("gradient", parameter.grad)):
                if tensor is None:
                    continue
                x = tensor.detach().numpy()
                row = {"name": name, "kind": kind, "norm": np.linalg.norm(x), "mean": x.mean(), "std": x.std()}
                self.rows.append(row | {"min": x.min(), "max": x.max()})
