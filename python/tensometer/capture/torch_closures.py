"""Optimizers of PyTorch that compute the gradients themselves, with the closure that their step() is given."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


def before_update(optimizer: Optimizer, hook: Callable[[], None]) -> Any:
    """Call the hook before each update when there are gradients; returns the handle that removes it.

    If step() is given a closure, gradients are computed in it: then that is behind its first run.
    """

    def before(_: Optimizer, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        # PyTorch counts the optimizer among the arguments of its step().
        own, *given = args
        closure = given[0] if given else settings.get("closure")
        if closure is None:
            hook()
            return None
        waiting = [hook]

        def told() -> Any:
            result = closure()
            if waiting:
                waiting.pop()()
            return result

        return ((own, told, *given[1:]), settings) if given else (args, {**settings, "closure": told})

    # Where torch.compile compiles the step, which breaks its graph there anyway, it does not follow into the hook.
    outside_graphs: Any = torch.compiler.disable(before)  # type: ignore[no-untyped-call]
    return optimizer.register_step_pre_hook(outside_graphs)
