"""Reader of PyTorch's .pt, .pth, .bin and .ckpt: torch tells what is where, the bytes are mapped like any others.

torch loads with `weights_only=True` onto the meta device, so that it builds the tensors without their data and notes
where in the archive each storage begins.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from tensometer.checkpoint.entry import (
    MAX_DIMENSIONS,
    MAX_TENSORS,
    NUMPY_DTYPES,
    CheckpointError,
    Entry,
    Source,
    counted,
    element_count,
    printable,
)
from tensometer.checkpoint.mapped import MappedFile, reason
from tensometer.checkpoint.sources import MappedSource, StridedSource
from tensometer.checkpoint.zipped import Member, members, opened
from tensometer.extras import require

# The pickle holds no tensor data: about 150 bytes a tensor. One byte of it can make an unpickler allocate about 64.
MAX_PICKLE = 16 << 20
# These may be called by a weights-only pickle with any size, and would fill that much memory.
_ALLOCATORS = re.compile(rb"\b(bytearray|_rebuild_device_tensor_from_cpu_tensor)\n")
_MAX_DEPTH = 64
# What torch says of a file, between advice to trust it; of the advice nothing is repeated.
_GLOBAL = re.compile(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)")
_UNPICKLER = re.compile(r"(Can only|Unsupported (?:class|operand|operator))[^\n]*")
_ADVICE = re.compile(r" or (?:types|classes) allowlisted via `add_safe_globals`")
_KIND_WITHOUT_META = re.compile(r"'(Quantized)Meta'|_(nested)_view")
# A kind of tensor that torch loads only where other parts of it are imported.
_KIND_ELSEWHERE = re.compile(r"must be imported to load ([\w ]*\w)")
_MAX_REASON = 200


def read_torch(path: Path) -> list[Entry]:
    """Every tensor reachable through the file's dictionaries and lists, named by the keys joined with dots.

    Keys that hold dots may join to one name; the second tensor of a name gets " (2)" behind it, and so on.
    """
    file = MappedFile(path)
    if file.map[:4] != b"PK\x03\x04":
        raise CheckpointError(
            path,
            "is not a PyTorch zip archive; a file of PyTorch 1.5 or older becomes one "
            "by torch.save(torch.load(old, weights_only=True), new)",
        )
    found = members(file)
    _check_pickle(path, found)
    storages = {member.offset: member for member in found}
    if len(storages) != len(found):
        raise CheckpointError(path, "two members of the archive begin at the same byte")
    entries: list[Entry] = []
    seen: dict[tuple[object, ...], str] = {}
    names: Counter[str] = Counter()
    for joined, tensor in _tensors(path, _load(path)):
        entries.append(_entry(file, storages, seen, _distinct(joined, names), tensor))
        if len(entries) > MAX_TENSORS:
            raise CheckpointError(path, f"holds more than {MAX_TENSORS} tensors")
    file.close()
    return entries


def _distinct(joined: str, taken: Counter[str]) -> str:
    name = joined
    while name in taken:
        taken[joined] += 1
        name = f"{joined} ({taken[joined]})"
    taken[name] = 1
    return name


def _check_pickle(path: Path, found: list[Member]) -> None:
    pickles = [member for member in found if member.name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise CheckpointError(path, f"has {len(pickles)} members named data.pkl; a PyTorch archive has one")
    if pickles[0].size > MAX_PICKLE:
        raise CheckpointError(path, f"has a pickle of {pickles[0].size} bytes; at most {MAX_PICKLE} are read")
    for name, size in ((member.name.partition("/")[2], member.size) for member in found):
        if not name.startswith("data/") and size > MAX_PICKLE:
            raise CheckpointError(path, f"member {name!r} has {size} bytes; at most {MAX_PICKLE} are read")
    with opened(path) as archive:
        pickled = archive.read(pickles[0].info)
        byteorder = next((m for m in found if m.name.partition("/")[2] == "byteorder"), None)
        if byteorder is not None and archive.read(byteorder.info) != b"little":
            raise CheckpointError(path, "is not little-endian")
    allocator = _ALLOCATORS.search(pickled)
    if allocator is not None:
        raise CheckpointError(path, f"calls {allocator[1].decode()}, which no tensor needs")


def _load(path: Path) -> object:
    torch = require("torch", extra="torch", purpose="reading PyTorch files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, mmap=True, map_location="meta")
    # What torch raises on hostile bytes is not a closed list.
    except Exception as error:
        raise CheckpointError(path, _refusal(error)) from error


def _refusal(error: Exception) -> str:
    said = str(error)
    if kind := _KIND_WITHOUT_META.search(said):
        return f"holds a {(kind[1] or kind[2]).lower()} tensor, which PyTorch cannot load without its data"
    if kind := _KIND_ELSEWHERE.search(said):
        return f"holds {kind[1]}, which are not read"
    if name := _GLOBAL.search(said):
        cut = "..." if len(name[1]) > _MAX_REASON else ""
        why = f"Unsupported global: GLOBAL {name[1][:_MAX_REASON]}{cut}"
    else:
        found = _UNPICKLER.search(said)
        text = _ADVICE.sub("", found[0]) if found else reason(error).partition(". ")[0]
        why = shorten(text, _MAX_REASON, placeholder=" ...")
    return f"cannot be loaded with weights_only=True: {why}"


def _tensors(path: Path, root: object) -> Iterator[tuple[str, Any]]:
    """Tensors below `root`, depth first. Bounded, for a small pickle may describe an endless or exponential tree."""
    torch = require("torch", extra="torch", purpose="reading PyTorch files")
    pending: list[Iterator[tuple[str, object]]] = [iter([("", root)])]
    visited = 0
    while pending:
        try:
            name, value = next(pending[-1])
        except StopIteration:
            pending.pop()
            continue
        visited += 1
        if visited > 4 * MAX_TENSORS:
            raise CheckpointError(path, f"holds more than {4 * MAX_TENSORS} objects")
        if isinstance(value, torch.Tensor):
            yield name or "tensor", value
        elif isinstance(value, Mapping | list | tuple):
            if len(pending) > _MAX_DEPTH:
                raise CheckpointError(path, f"nests its dictionaries and lists more than {_MAX_DEPTH} levels deep")
            pending.append(_children(name, value))


def _children(
    prefix: str, value: Mapping[Any, object] | list[object] | tuple[object, ...]
) -> Iterator[tuple[str, object]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, child in items:
        # Keys may be any hashable object; its text may be long.
        text = key if isinstance(key, str) else repr(key)
        text = printable(text[:256])
        yield (f"{prefix}.{text}" if prefix else text), child


def _entry(
    file: MappedFile, storages: dict[int, Member], seen: dict[tuple[object, ...], str], name: str, tensor: Any
) -> Entry:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_nested:  # its shape is not one of numbers
        return Entry(name, str(file.path), dtype, (), 0, None, "nested tensors are not supported")
    shape = tuple(tensor.shape)
    # Its bytes are the numbers with the other sign. (Of complex tensors only magnitudes are read, so conjugates do.)
    if tensor.is_neg():
        return Entry(name, str(file.path), dtype, shape, 0, None, "negated views are not supported")
    if dtype not in NUMPY_DTYPES or tensor.is_quantized:
        return Entry(name, str(file.path), dtype, shape, 0, None, f"dtype {dtype} is not supported")
    if str(tensor.layout) != "torch.strided":
        layout = str(tensor.layout).removeprefix("torch.")
        return Entry(name, str(file.path), dtype, shape, 0, None, f"layout {layout} is not supported")
    storage = tensor.untyped_storage()
    begin = getattr(storage, "_checkpoint_offset", None)
    if begin is None:  # saved on the meta device
        return Entry(name, str(file.path), dtype, shape, 0, None, "has no data in the file")
    member = storages.get(begin)
    if member is None or not member.stored:
        raise CheckpointError(file.path, f"the data of tensor {name!r} is not a stored member of the archive")
    # On the meta device a tensor that reaches beyond its storage enlarges it.
    if storage.nbytes() > member.size:
        raise CheckpointError(
            file.path, f"tensor {name!r} reaches byte {storage.nbytes()} of a storage of {counted(member.size, 'byte')}"
        )
    bits = NUMPY_DTYPES[dtype]
    strides = tuple(stride * bits.itemsize for stride in tensor.stride())
    first = tensor.storage_offset() * bits.itemsize
    _check_bounds(file, name, member, first, shape, strides)
    nbytes = element_count(shape) * bits.itemsize
    place = (member.offset + first, dtype, shape, strides)
    tied_to = seen.setdefault(place, name)
    if nbytes > file.size:
        why = f"an expanded view: {nbytes} bytes in a file of {file.size}"
        return Entry(name, str(file.path), dtype, shape, nbytes, None, why)
    source: Source
    if tensor.is_contiguous():
        source = MappedSource(file, member.offset + first, bits, shape)
    else:
        source = StridedSource(file, member.offset + first, bits, shape, strides)
    return Entry(name, str(file.path), dtype, shape, nbytes, source, tied_to="" if tied_to == name else tied_to)


def _check_bounds(
    file: MappedFile, name: str, member: Member, first: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    if len(shape) > MAX_DIMENSIONS:
        raise CheckpointError(
            file.path, f"tensor {name!r} has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are read"
        )
    last = first + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size > 1)
    if 0 not in shape and (first < 0 or any(stride < 0 for stride in strides) or last >= member.size):
        raise CheckpointError(
            file.path, f"tensor {name!r} reaches byte {last} of a storage of {counted(member.size, 'byte')}"
        )
