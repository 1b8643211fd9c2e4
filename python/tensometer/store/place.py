"""Where a run lies: a local folder, or any URL that fsspec knows. Files appear whole and are never replaced unasked."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from tensometer.extras import require


class Place(Protocol):
    """A folder of files with names such as `rank-00000/000000007.tmz`. Errors of the system are OSErrors."""

    url: str

    def read(self, name: str) -> bytes:
        """The whole file; FileNotFoundError if there is none."""

    def write(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """The file appears whole or not at all; FileExistsError if there is one and `replace` does not allow it."""

    def names(self, folder: str = "") -> list[str]:
        """Files and folders inside a folder, sorted; none if it does not exist."""


def open_place(url: str | os.PathLike[str]) -> Place:
    """The place behind a path or URL. TypeError or ValueError for what is neither."""
    if not isinstance(url, str | os.PathLike):
        raise TypeError(f"url: {url!r} is neither a path nor a URL")
    text = os.fspath(url)
    if not text:
        raise ValueError("url: the path is empty")
    return _FsspecPlace(text) if "://" in text else _LocalPlace(Path(text))


class _LocalPlace:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = str(root)

    def read(self, name: str) -> bytes:
        """The whole file; see Place."""
        return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """The file appears whole; see Place."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with beside.open("wb") as stream:
                stream.write(data)
            if replace:
                beside.replace(path)
            else:
                _link(beside, path)
        finally:
            with suppress(FileNotFoundError):
                beside.unlink()

    def names(self, folder: str = "") -> list[str]:
        """What is inside a folder; see Place."""
        try:
            found = [path.name for path in (self._root / folder).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if not name.startswith("."))


def _link(beside: Path, path: Path) -> None:
    """A second name fails if it is taken, where a rename would replace. Some file systems know no second names."""
    try:
        os.link(beside, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        beside.replace(path)


class _FsspecPlace:
    """One PUT makes a file appear whole on an object store."""

    def __init__(self, url: str) -> None:
        fsspec: Any = require("fsspec", extra="store", purpose=f"the URL {url}")
        self._files, self._root = fsspec.url_to_fs(url)
        self.url = url

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def read(self, name: str) -> bytes:
        """The whole file; see Place."""
        return bytes(self._files.cat_file(self._path(name)))

    def write(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """The file appears whole; see Place."""
        # Stores that know conditions (S3: If-None-Match) keep two writers from taking one name.
        self._files.pipe_file(self._path(name), data, mode="overwrite" if replace else "create")

    def names(self, folder: str = "") -> list[str]:
        """What is inside a folder; see Place."""
        # Listings are cached by fsspec, and this one must see what others wrote.
        self._files.invalidate_cache(self._path(folder))
        try:
            found = self._files.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)
