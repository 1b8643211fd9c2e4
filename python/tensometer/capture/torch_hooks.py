"""What is hung on other people's models and tensors, and keeps out of the way of what else is done with those."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch


class Hook:
    """Calls `seen` while a model runs; not in a copy of the model, nor while PyTorch compiles or traces it.

    What is compiled or traced has no values to summarise, and Dynamo follows into hooks: it finds none here.
    """

    # Tensors that bear it are saved without it, and without a warning that says so.
    __torch_unserializable__ = True

    def __init__(self, seen: Callable[..., None]) -> None:
        self._seen = seen

    def __call__(self, *arguments: Any) -> None:
        """Of whatever kind of hook: nothing that passes is changed."""
        if not torch.compiler.is_compiling() and not torch._C._is_tracing():
            self._seen(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        # copy.deepcopy, pickle and torch.save meet it in modules. What takes its place takes anything, does nothing,
        # and is of the standard library: whoever loads the model needs no tensometer.
        return getattr, (nullcontext(), "__exit__")
