"""Optimizers of PyTorch that compute the gradients themselves, with the closure that their step() is given."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer


class AfterClosure(Optimizer):
    """An optimizer as a monitor should see it: hooks before its update run when there are gradients.

    Those are computed in the closure, if step() is given one: then hooks run behind its first run.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.__dict__ = optimizer.__dict__  # the same groups, the same state, the same hooks

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> Any:
        """Register a hook on the optimizer itself."""

        def before(optimizer: Any, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
            # PyTorch counts the optimizer among the arguments of its step().
            own, *given = args
            closure = given[0] if given else settings.get("closure")
            if closure is None:
                return hook(optimizer, args, settings)
            waiting = [hook]

            def told() -> Any:
                result = closure()
                if waiting:
                    waiting.pop()(optimizer, args, settings)
                return result

            return ((own, told, *given[1:]), settings) if given else (args, {**settings, "closure": told})

        return super().register_step_pre_hook(before)
