"""Settings in a TOML file, which may be edited while training runs."""

import os
import tomllib
from pathlib import Path

from tensometer.capture.config import MonitorConfig

ENVIRONMENT = "TENSOMETER_CONFIG"


class ConfigFile:
    """A TOML file of MonitorConfig's settings. ValueError, TypeError and OSError name the file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._seen = self._stamp()

    def read(self) -> MonitorConfig:
        """The settings in the file."""
        try:
            return MonitorConfig.from_dict(tomllib.loads(self.path.read_text("utf-8")))
        except TypeError as error:
            raise TypeError(f"{self.path}: {error}") from None
        except ValueError as error:  # of the syntax too
            raise ValueError(f"{self.path}: {error}") from None

    def changed(self) -> bool:
        """Whether the file is another than at the last question; no file, as while an editor saves, is no change."""
        try:
            stamp = self._stamp()
        except OSError:
            return False
        changed, self._seen = stamp != self._seen, stamp
        return changed

    def _stamp(self) -> tuple[int, int, int]:
        status = self.path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino
