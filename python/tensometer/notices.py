"""Warnings for people whose training must go on."""

import sys
import warnings

_PACKAGE = __name__.partition(".")[0]


def warn(sentence: str) -> None:
    """A RuntimeWarning at the line outside this package that led here. Where warnings are errors it is only shown."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    try:
        warnings.warn(f"tensometer: {sentence}", RuntimeWarning, stacklevel=level)
    except RuntimeWarning as warning:
        warnings.showwarning(warning, RuntimeWarning, frame.f_code.co_filename, frame.f_lineno)
