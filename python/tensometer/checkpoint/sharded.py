"""Checkpoints of many files: an index of shards, or a folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tensometer.checkpoint.entry import MAX_TENSORS, CheckpointError, Entry
from tensometer.checkpoint.gguf_file import read_gguf
from tensometer.checkpoint.jsonwalk import JsonWalker
from tensometer.checkpoint.mapped import MappedFile, reason
from tensometer.checkpoint.numpy_file import read_npy, read_npz
from tensometer.checkpoint.safetensors_file import read_safetensors
from tensometer.checkpoint.torch_file import read_torch

_INDEX = ".index.json"
# The indices of the largest published checkpoints take about 10 MB; they are walked value by value.
_MAX_INDEX = 32 << 20
_READERS: dict[str, Callable[[Path], list[Entry]]] = {
    ".safetensors": read_safetensors,
    ".gguf": read_gguf,
    ".pt": read_torch,
    ".pth": read_torch,
    ".bin": read_torch,
    ".ckpt": read_torch,
    ".npz": read_npz,
    ".npy": read_npy,
}
# A model's folder often holds the same weights in several formats; the first group present is read.
_FOLDER_GROUPS = ((".safetensors",), (".gguf",), (".pt", ".pth", ".bin", ".ckpt"), (".npz", ".npy"))


def read_checkpoint(path: str | Path) -> list[Entry]:
    """The tensors of a file, of an index of shards, or of a folder; CheckpointError if they cannot be read."""
    path = Path(path)
    try:
        if path.is_dir():
            return _read_folder(path)
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(path, reason(error)) from error
    return _read_file(path)


def _read_file(path: Path) -> list[Entry]:
    if path.name.endswith(_INDEX):
        return _read_index(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        # A missing file is a better sentence than an unknown suffix.
        MappedFile(path)
        raise CheckpointError(path, f"is none of {', '.join(_READERS)}, *{_INDEX} or a folder")
    return reader(path)


def _read_folder(path: Path) -> list[Entry]:
    files = sorted(child for child in path.iterdir() if child.is_file())
    for group in _FOLDER_GROUPS:
        indices = [file for file in files if any(file.name.endswith(suffix + _INDEX) for suffix in group)]
        chosen = indices or [file for file in files if file.suffix.lower() in group]
        if chosen:
            entries = [entry for file in chosen for entry in _read_file(file)]
            if len(entries) > MAX_TENSORS:
                raise CheckpointError(path, f"holds {len(entries)} tensors; at most {MAX_TENSORS} are read")
            return entries
    raise CheckpointError(path, f"is a folder without a checkpoint ({', '.join(_READERS)})")


def _read_index(path: Path) -> list[Entry]:
    """All shards named by the index, each of whose tensors must be where the index says."""
    placed = _weight_map(path)
    entries: list[Entry] = []
    for shard in dict.fromkeys(placed.values()):
        if shard.endswith(_INDEX) or Path(shard).suffix.lower() not in _READERS:
            raise CheckpointError(path, f"names the shard {shard!r}, which is no checkpoint file")
        for entry in _read_file(path.parent / shard):
            if placed.get(entry.name) == shard:
                del placed[entry.name]
                entries.append(entry)
            else:
                entries.append(replace(entry, source=None, skipped="the index does not place it in this file"))
    if placed:
        name, shard = next(iter(placed.items()))
        raise CheckpointError(path, f"places tensor {name!r} in {shard!r}, which does not hold it")
    return entries


def _weight_map(path: Path) -> dict[str, str]:
    file = MappedFile(path)
    if file.size > _MAX_INDEX:
        raise CheckpointError(path, f"has {file.size} bytes; an index of at most {_MAX_INDEX} is read")
    walker = JsonWalker(file, 0, file.size)
    placed: dict[str, str] | None = None
    # One string for each shard, however many tensors it holds.
    shards: dict[str, str] = {}
    for key in walker.members():
        if key != "weight_map":
            walker.skip()
            continue
        if placed is not None:
            raise CheckpointError(path, "has two weight_map objects")
        placed = {}
        for name in walker.members():
            shard = walker.string()
            if shard in ("", ".", "..") or "/" in shard or "\\" in shard or "\x00" in shard:
                raise CheckpointError(path, f"names the shard {shard!r}, which is not a plain file name")
            if name in placed:
                raise CheckpointError(path, f"lists tensor {name!r} twice")
            if len(placed) == MAX_TENSORS:
                raise CheckpointError(path, f"lists more than {MAX_TENSORS} tensors")
            placed[name] = shards.setdefault(shard, shard)
    walker.end()
    file.close()
    if not placed:
        raise CheckpointError(path, "has no weight_map with tensors")
    return placed
