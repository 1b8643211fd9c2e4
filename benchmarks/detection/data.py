"""Data that packages ship, in batches."""

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn import datasets  # type: ignore[import-untyped]
from torch import Tensor

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Split:
    """What is trained on, and a fifth that is held back, in an order that torch's seed decides."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor

    def batches(self, size: int = 32) -> Batches:
        """Endless batches."""
        return batches(self.x, self.y, size)

    @property
    def held(self) -> tuple[Tensor, Tensor]:
        """What is held back."""
        return self.held_x, self.held_y


def batches(x: Tensor, y: Tensor, size: int = 32) -> Batches:
    """Endless batches of one size, in a new order each time through the data."""
    while True:
        order = torch.randperm(len(x))
        for begin in range(0, len(x) - size + 1, size):
            part = order[begin : begin + size]
            yield x[part], y[part]


@cache
def _loaded(name: str) -> tuple[Any, Any]:
    found = getattr(datasets, f"load_{name}")()
    return np.asarray(found.data, np.float32), found.target


def split(x: Tensor, y: Tensor) -> Split:
    """Of rows, in a new order."""
    order = torch.randperm(len(x))
    held = len(x) // 5
    return Split(x[order[held:]], y[order[held:]], x[order[:held]], y[order[:held]])


def raw(name: str) -> tuple[Tensor, Tensor]:
    """Features and targets as they are: of breast_cancer, wine, diabetes or digits."""
    x, y = _loaded(name)
    return torch.tensor(x), torch.tensor(y)


def digits(*, images: bool = False) -> Split:
    """1797 images of 8x8 pixels around 0, with a variance of 1, in ten classes."""
    x, y = raw("digits")
    x = (x - x.mean()) / x.std()
    return split(x.view(-1, 1, 8, 8) if images else x, y)


def standardised(name: str) -> Split:
    """Features of mean 0 and variance 1; so is the target of diabetes, as a column."""
    x, y = raw(name)
    x = (x - x.mean(0)) / x.std(0)
    if name == "diabetes":
        y = ((y - y.mean()) / y.std()).float().unsqueeze(1)
    return split(x, y)


def binary(name: str = "breast_cancer") -> Split:
    """Two classes as a column of float32, for binary cross entropy."""
    found = standardised(name)
    return Split(found.x, found.y.float().unsqueeze(1), found.held_x, found.held_y.float().unsqueeze(1))


@cache
def _text() -> tuple[Tensor, int]:
    characters = inspect.getsource(textwrap)
    alphabet = sorted(set(characters))
    return torch.tensor([alphabet.index(one) for one in characters]), len(alphabet)


def vocabulary() -> int:
    """How many characters the text has, and one more, 0, which stands for padding."""
    return _text()[1] + 1


def text(size: int = 16, length: int = 32) -> Batches:
    """Endless batches of the source of Python's own textwrap module: characters, and those that follow each."""
    tokens, _ = _text()
    while True:
        begins = torch.randint(len(tokens) - length - 1, (size, 1))
        part = tokens[begins + torch.arange(length + 1)] + 1
        yield part[:, :-1], part[:, 1:]
