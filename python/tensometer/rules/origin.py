"""What events `nonfinite` say of where the first value came from that is not finite, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from tensometer.rules.step import Fact


def origin(events: Sequence[Fact]) -> str:
    """Of the first such event that is no consequence of another; "" where there is none."""
    for event in events:
        if event.kind == "nonfinite" and "consequence_of" not in event.data:
            return f"at step {event.step} it came from {_place(event.data)}"
    return ""


def _place(data: Mapping[str, Any]) -> str:
    where = data.get("where")
    if where == "input":
        return f"NaN in the input ({_some(data['inputs'])})"
    if where == "forward":
        module = f"the output of {data['module']} ({data['module_type']})"
        return f"{module}, {_entered(data)}"
    if where == "model":
        return f"the model, {_entered(data)}"
    if where == "backward":
        return f"the backward pass, where the gradient left {data['module']}"
    if where in ("gradient", "weight"):
        return f"the {where} of {_some(data['parameters'])}"
    return "the loss"


def _entered(data: Mapping[str, Any]) -> str:
    broken = data.get("parameters_not_finite")
    if broken:
        return f"whose {_some(broken)} was not finite"
    return "while what went in was finite" if data.get("first", True) else "while what went in was not finite either"


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
