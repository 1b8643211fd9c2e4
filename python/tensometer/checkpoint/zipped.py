"""Zip archives of unknown honesty: the directory is read with a limit, members are located, not extracted."""

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tensometer.checkpoint.entry import CheckpointError, counted, printable
from tensometer.checkpoint.mapped import MappedFile, reason

# A directory entry takes about 100 bytes, so this is some 80,000 members; zipfile builds about 600 bytes for each.
MAX_DIRECTORY = 8 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")


class _LimitedFile(io.FileIO):
    """zipfile reads a directory of whatever size the archive claims in one call; this one refuses."""

    def read(self, size: int | None = -1, /) -> bytes:
        """At most MAX_DIRECTORY bytes."""
        wanted = MAX_DIRECTORY + 1 if size is None or size < 0 else size
        data = super().read(min(wanted, MAX_DIRECTORY + 1)) or b""
        if len(data) > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its directory has more than {MAX_DIRECTORY} bytes")
        return data


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside the archive. `offset` is where its bytes begin in the archive."""

    name: str
    offset: int
    size: int
    stored: bool
    info: zipfile.ZipInfo


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever zipfile raises on hostile bytes (not a closed list) becomes a CheckpointError."""
    try:
        with _LimitedFile(path) as raw, zipfile.ZipFile(raw) as archive:
            yield archive
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(path, f"is not a readable zip archive: {printable(reason(error))}") from error


def members(file: MappedFile) -> list[Member]:
    """Every member with its place in the file, checked against the file's size."""
    with opened(file.path) as archive:
        found = [_locate(file, info) for info in archive.infolist() if not info.is_dir()]
    names = {member.name for member in found}
    if len(names) != len(found):
        raise CheckpointError(file.path, "two members of the archive have the same name")
    return found


def _locate(file: MappedFile, info: zipfile.ZipInfo) -> Member:
    name = printable(info.filename)
    header = file.map[info.header_offset : info.header_offset + _LOCAL_HEADER.size]
    if info.header_offset < 0 or len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise CheckpointError(file.path, f"member {name!r} has no header at byte {info.header_offset}")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    offset = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if info.flag_bits & 1:
        raise CheckpointError(file.path, f"member {name!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CheckpointError(file.path, f"member {name!r} has the unsupported compression {info.compress_type}")
    stored = info.compress_type == zipfile.ZIP_STORED
    if stored and info.compress_size != info.file_size:
        raise CheckpointError(
            file.path, f"stored member {name!r} claims {counted(info.file_size, 'byte')} and takes {info.compress_size}"
        )
    if offset + info.compress_size > file.size:
        raise CheckpointError(
            file.path, f"member {name!r} ends at byte {offset + info.compress_size} of a file of {file.size} bytes"
        )
    return Member(name, offset, info.file_size, stored, info)


@contextmanager
def decompressed(path: Path, member: Member, skip: int = 0) -> Iterator[IO[bytes]]:
    """The member's bytes as a stream, from byte `skip` on."""
    with opened(path) as archive, archive.open(member.info) as stream:
        stream.read(skip)
        yield stream
