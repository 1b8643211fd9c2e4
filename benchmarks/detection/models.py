"""The networks of the cases."""

import itertools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from benchmarks.detection.data import vocabulary

Activation = Callable[[], nn.Module]


def mlp(*sizes: int, activation: Activation = nn.ReLU, normalise: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers, with something between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b)]
        layers += [nn.BatchNorm1d(b)] if normalise else []
        layers += [activation()]
        layers += [nn.Dropout(dropout)] if dropout else []
    last = next(at for at in reversed(range(len(layers))) if isinstance(layers[at], nn.Linear))
    return nn.Sequential(*layers[: last + 1])


def linears(model: nn.Module) -> list[nn.Linear]:
    """The linear layers, in their order."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def initialise(layers: Iterable[nn.Linear], std: float | None = None, bias: float = 0.0) -> None:
    """Normal weights: of that deviation, or as He et al. have them."""
    for layer in layers:
        if std is None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        else:
            nn.init.normal_(layer.weight, std=std)
        nn.init.constant_(layer.bias, bias)


def cnn(wide: int, *, normalise: bool = True, classes: int = 10) -> nn.Sequential:
    """Two convolutions over images of 8x8."""

    def norm(channels: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(channels)] if normalise else []

    return nn.Sequential(
        *(nn.Conv2d(1, wide, 3, padding=1), *norm(wide), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(wide, 2 * wide, 3, padding=1), *norm(2 * wide), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * wide, classes)),
    )


class Residual(nn.Module):
    """A block that adds to what goes through it, behind a gate if there is one."""

    def __init__(self, width: int, *, gate: bool = False, normalise: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if normalise else nn.Identity()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.gate = nn.Parameter(torch.zeros(1)) if gate else None

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.inner(self.norm(x))
        return x + (inner if self.gate is None else self.gate * inner)


class Attention(nn.Module):
    """Attention whose weights a hook sees: a softmax of its own. scale: of the logits, 1 as everybody has them."""

    def __init__(self, width: int, heads: int = 4, *, causal: bool = True, scale: float = 1.0) -> None:
        super().__init__()
        self.heads, self.causal, self.scale = heads, causal, scale
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.softmax = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(-2, -1) * (self.scale * q.shape[-1] ** -0.5)
        if self.causal:
            future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future, float("-inf"))
        mixed: Tensor = self.output((self.softmax(scores) @ v).transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """A transformer's block, normalised before."""

    def __init__(self, width: int, attention: nn.Module, activation: Activation = nn.GELU) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), attention
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width, 4 * width, width, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.attention, nn.MultiheadAttention):
            normal = self.norm1(x)
            x = x + self.attention(normal, normal, normal)[0]
        else:
            x = x + self.attention(self.norm1(x))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class Language(nn.Module):
    """A small language model of characters. tied: the head's weight is the embedding's."""

    def __init__(
        self, width: int, layers: int = 2, *, tied: bool = False, scale: float = 1.0, positions: int = 32
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary(), width)
        self.positions = nn.Embedding(positions, width)
        for table in (self.embedding, self.positions):
            nn.init.normal_(table.weight, std=0.1)
        self.blocks = nn.Sequential(*(Block(width, Attention(width, scale=scale)) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary(), bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1]))
        result: Tensor = self.head(self.norm(self.blocks(x)))
        return result


class Recurrent(nn.Module):
    """Characters, through a recurrent module of PyTorch."""

    def __init__(self, width: int, kind: type[nn.RNNBase] = nn.LSTM, **options: object) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary(), width)
        self.recurrent = kind(width, width, batch_first=True, **options)  # type: ignore[arg-type]
        self.head = nn.Linear(width, vocabulary())

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.head(self.recurrent(self.embedding(tokens))[0])
        return result


class Vision(nn.Module):
    """A transformer over the eight rows of a digit, with PyTorch's own attention."""

    def __init__(self, width: int, layers: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.rows = nn.Linear(8, width)
        self.positions = nn.Parameter(torch.zeros(8, width))
        attentions = [nn.MultiheadAttention(width, 4, batch_first=True) for _ in range(layers)]
        self.blocks = nn.Sequential(*(Block(width, attention) for attention in attentions))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.blocks(self.rows(x.reshape(-1, 8, 8)) + self.positions).mean(1))
        return result


class Experts(nn.Module):
    """A mixture of experts: each row goes to the one that the router prefers."""

    def __init__(self, width: int, count: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(width, count)
        self.softmax = nn.Softmax(-1)
        self.experts = nn.ModuleList(mlp(width, 2 * width, width) for _ in range(count))
        self.load = torch.zeros(count)  # what share each had, with a gradient: for a loss that balances it

    def forward(self, x: Tensor) -> Tensor:
        shares = self.softmax(self.router(x))
        best = shares.argmax(-1)
        # As Switch Transformers have it: the share of rows times the share of probability, least when both are even.
        counts = torch.bincount(best, minlength=len(self.experts)) / len(x)
        self.load = len(self.experts) * counts * shares.mean(0)
        result = torch.zeros_like(x)
        for at, expert in enumerate(self.experts):
            rows = (best == at).nonzero().squeeze(1)
            result = result.index_add(0, rows, expert(x[rows]) * shares[rows, at : at + 1])
        return x + result
