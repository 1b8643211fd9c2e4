"""Optional dependencies, imported where they are used and named clearly where they are missing."""

from importlib import import_module
from typing import Any


def require(module: str, *, extra: str, purpose: str) -> Any:
    """The imported module, or an ImportError that names the extra which brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{purpose} needs {package}: pip install 'tensometer[{extra}]'") from error


def available(module: str) -> Any | None:
    """The imported module, or None where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        return None
