"""Where a run lies: a local folder, or any URL that fsspec knows. Files appear whole and are never replaced unasked."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from tensometer.extras import require

# Of these URLs, what follows is a path; fsspec would write files that appear piece by piece.
_LOCAL = ("file", "local")


class Place(Protocol):
    """A folder of files with names such as `rank-00000/000000007.tmz`. Errors of the system are OSErrors.

    folder: where it is, if that is on this machine's file system.
    """

    url: str
    folder: Path | None

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
    protocol, between, path = text.partition("://")
    local = not between or protocol in _LOCAL
    if not (path if local and between else text):
        raise ValueError("url: the path is empty")
    return _LocalPlace(Path(path if between else text)) if local else _FsspecPlace(text)


class _LocalPlace:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = str(root)
        self.folder: Path | None = root

    def read(self, name: str) -> bytes:
        """The whole file; see Place."""
        return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """The file appears whole; see Place."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(_beside(path.name))
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


def _beside(name: str) -> str:
    """A name that no one else has, other threads and machines with the same folder included, and that readers skip."""
    return f".{name}.{uuid.uuid4().hex}.tmp"


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
    """On an object store one PUT makes a file appear whole. On what has folders and open files (SFTP, HDFS and others)
    it is written beside and then given its name.
    """

    def __init__(self, url: str) -> None:
        fsspec: Any = require("fsspec", extra="store", purpose=f"the URL {url}")
        self._files, self._root = fsspec.url_to_fs(url)
        # What has no way of its own to put a whole file writes it through an open one.
        self._has_folders = type(self._files).pipe_file is fsspec.AbstractFileSystem.pipe_file
        self.url = url
        self.folder: Path | None = None

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def read(self, name: str) -> bytes:
        """The whole file; see Place."""
        with self._system_errors(name):
            return bytes(self._files.cat_file(self._path(name)))

    def write(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """The file appears whole; see Place."""
        with self._system_errors(name):
            if self._has_folders:
                self._write_beside(self._path(name), data, replace)
            else:
                # Stores that know conditions (S3: If-None-Match) keep two writers from taking one name.
                self._files.pipe_file(self._path(name), data, mode="overwrite" if replace else "create")

    def _write_beside(self, path: str, data: bytes, replace: bool) -> None:
        folder, _, name = path.rpartition("/")
        beside = f"{folder}/{_beside(name)}"
        self._files.makedirs(folder, exist_ok=True)
        try:
            self._files.pipe_file(beside, data)
            if not replace and self._files.exists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self._files.mv(beside, path)
        except BaseException:
            with suppress(Exception):
                self._files.rm_file(beside)
            raise

    def names(self, folder: str = "") -> list[str]:
        """What is inside a folder; see Place."""
        with self._system_errors(folder):
            # Listings are cached by fsspec, and this one must see what others wrote.
            self._files.invalidate_cache(self._path(folder))
            try:
                found = self._files.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        return sorted(name for name in names if not name.startswith("."))

    @contextmanager
    def _system_errors(self, name: str) -> Iterator[None]:
        """What else a store raises, as s3fs does for a server that does not answer, as an OSError."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{self.url}/{name}: {type(error).__name__}: {error}") from error
