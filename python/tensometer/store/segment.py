"""A segment: one batch of summaries in columns, as docs/format.md specifies it."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import zstandard

from tensometer._core import SummaryTable, pack

MAGIC = b"tmzstats"
VERSION = 1
ALIGNMENT = 64
# Far beyond what a writer puts into a segment (some 5 MB); it bounds what a hostile header makes a reader allocate.
MAX_PAYLOAD = 1 << 30
_HEADER = struct.Struct("<8sIIQ")
# zstd's own default: on summaries, higher levels gain 3 % for three times the time.
_LEVEL = 3
_SEPARATORS = (",", ":")

Column = npt.NDArray[Any]

# Name -> (dtype, value in every row where the column is absent). The last two have one element a bin, not a row.
_LARGEST, _SMALLEST = 2**63 - 1, -(2**63)
ROW_COLUMNS: dict[str, tuple[str, float | int]] = {
    "step": ("<i8", 0),
    "time": ("<f8", 0.0),
    "phase": ("<u2", 0),
    "tensor": ("<u4", 0),
    **dict.fromkeys(("count", "zeros", "negatives", "nan", "posinf", "neginf"), ("<u8", 0)),
    "min": ("<f8", np.inf),
    "max": ("<f8", -np.inf),
    **dict.fromkeys(("mean", "m2", "abs_sum"), ("<f8", 0.0)),
    "exponent": ("<i8", 0),
    "integer_min": ("<i8", _LARGEST),
    "integer_max": ("<i8", _SMALLEST),
    "fingerprint": ("<u8", 0),
    "histogram_resolution": ("<u1", 255),
    "histogram_sampled": ("<u1", 0),
    "histogram_bins": ("<u4", 0),
}
BIN_COLUMNS: dict[str, tuple[str, float | int]] = {"bin_step": ("<u2", 0), "bin_count": ("<u8", 0)}
COLUMNS = ROW_COLUMNS | BIN_COLUMNS


class SegmentError(ValueError):
    """A segment cannot be read. The message is one sentence that begins with the segment's name."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(f"{name}: {sentence}")


@dataclass(frozen=True)
class TensorKey:
    """What a row is about; rows refer to it by number. `facts` are JSON values that rules may read."""

    name: str
    collection: str
    dtype: str
    shape: tuple[int, ...]
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Record:
    """The summaries of one step: row i of `table` is of the tensor `keys[i]`. `time` is in seconds since 1970."""

    step: int
    time: float
    phase: str
    keys: Sequence[TensorKey]
    table: SummaryTable


@dataclass(frozen=True)
class Event:
    """A fact of a step that is no number. `time` is in seconds since 1970, `data` JSON values, `rank` the writer's."""

    step: int
    time: float
    kind: str
    data: Mapping[str, Any]
    rank: int = 0


@dataclass(frozen=True)
class Segment:
    """A segment in memory: every column of ROW_COLUMNS with `rows` elements. `frame` holds the others, compressed.

    step: the last that its writer had reached, -1 for none. launch: how often the run had been begun before.
    """

    rows: int
    rank: int
    step: int
    launch: int
    tensors: tuple[TensorKey, ...]
    phases: tuple[str, ...]
    events: tuple[Event, ...]
    columns: dict[str, Column]
    name: str
    places: Sequence[dict[str, Any]]
    frame: bytes

    def bins(self) -> dict[str, Column]:
        """The columns of BIN_COLUMNS: of one element a listed bin, row after row. SegmentError if they are damaged."""
        columns = {name: np.zeros(0, dtype) for name, (dtype, _) in BIN_COLUMNS.items()}
        if self.places:
            payload, rest = decompressed(self.frame, self.name)
            if rest:
                raise SegmentError(self.name, "is followed by something")
            columns |= _columns(payload, 0, self.places, BIN_COLUMNS, self.name)
        count = int(self.columns["histogram_bins"].astype(np.uint64).sum())
        for column, found in columns.items():
            if len(found) != count:
                raise SegmentError(self.name, f"has {count} bins, and {len(found)} in column {column}")
        return columns


def encode_segment(
    records: Sequence[Record], *, rank: int = 0, events: Sequence[Event] = (), step: int = -1, launch: int = 0
) -> bytes:
    """The records and events as one segment, whose writer has reached `step` or the last of the records.

    ValueError if a table has another number of rows than keys. TypeError for what is no JSON.
    """
    numbers: dict[TensorKey, int] = {}
    phases: dict[str, int] = {}
    steps, times, phase_ids, tensor_ids = [], [], [], []
    for record in records:
        if len(record.table) != len(record.keys):
            raise ValueError(f"keys: {len(record.keys)} given for a table of {len(record.table)} rows")
        rows = len(record.keys)
        steps.append(np.full(rows, record.step, np.int64))
        times.append(np.full(rows, record.time, np.float64))
        phase_ids.append(np.full(rows, phases.setdefault(record.phase, len(phases)), np.uint16))
        tensor_ids.append(np.array([numbers.setdefault(key, len(numbers)) for key in record.keys], np.uint32))
    columns = pack([record.table for record in records])
    for name, parts in (("step", steps), ("time", times), ("phase", phase_ids), ("tensor", tensor_ids)):
        columns[name] = np.concatenate(parts) if parts else np.zeros(0, ROW_COLUMNS[name][0])
    schema = {
        "version": VERSION,
        "rows": len(columns["step"]),
        "rank": rank,
        "step": max([step, *(record.step for record in records)]),
        "launch": launch,
        "tensors": [
            {"name": key.name, "collection": key.collection, "dtype": key.dtype, "shape": list(key.shape)}
            | ({"facts": dict(key.facts)} if key.facts else {})
            for key in numbers
        ],
        "phases": list(phases),
        "events": [
            {"step": event.step, "time": event.time, "kind": event.kind, "data": dict(event.data)} for event in events
        ],
    }
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    # Histograms are most of a segment and seldom read: they are a frame of their own.
    places, planes = _planes({name: columns[name] for name in BIN_COLUMNS})
    frame = compressor.compress(b"".join(planes)) if places else b""
    schema |= {"bins": places, "bins_bytes": len(frame)}
    return compressor.compress(_payload(schema, columns)) + frame


def _payload(schema: dict[str, Any], columns: dict[str, Column]) -> bytes:
    """Header, schema, columns of rows. What holds its default in every row is left out."""
    defaults = {name: default for name, (_, default) in ROW_COLUMNS.items()}
    kept = {name: columns[name] for name in defaults if not bool((columns[name] == defaults[name]).all())}
    places, parts = _planes(kept)
    text = json.dumps(schema | {"columns": places}, separators=_SEPARATORS, allow_nan=False).encode()
    text += b" " * (-(_HEADER.size + len(text)) % ALIGNMENT)
    size = _HEADER.size + len(text) + sum(map(len, parts))
    return b"".join([_HEADER.pack(MAGIC, VERSION, len(text), size), text, *parts])


def _planes(columns: Mapping[str, Column]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Where columns lie, and their bytes: first bytes of all elements, second bytes, ... Empty ones are left out."""
    places: list[dict[str, Any]] = []
    parts = []
    at = 0
    for name, given in columns.items():
        column = np.ascontiguousarray(given, COLUMNS[name][0])
        if len(column):
            places.append({"name": name, "dtype": COLUMNS[name][0], "offset": at, "count": len(column)})
            planes = to_planes(column)
            parts.append(planes + bytes(-len(planes) % ALIGNMENT))
            at += len(parts[-1])
    return places, parts


def decode_segment(data: bytes, name: str = "segment") -> Segment:
    """The segment whose bytes these are. SegmentError for anything else; no claim makes it allocate without bound."""
    payload, frame = decompressed(data, name)
    if len(payload) < _HEADER.size:
        raise SegmentError(name, f"has {len(payload)} bytes, less than its header of {_HEADER.size}")
    magic, version, schema_size, size = _HEADER.unpack_from(payload)
    if magic != MAGIC:
        raise SegmentError(name, "does not begin as a segment does")
    if version != VERSION:
        raise SegmentError(name, f"has version {version}; this reader knows {VERSION}")
    if size != len(payload) or _HEADER.size + schema_size > size:
        raise SegmentError(name, f"has {len(payload)} bytes, and its header speaks of {size} and {schema_size}")
    begin = _HEADER.size + schema_size
    try:
        schema, tensors = _Keys.of(payload[_HEADER.size : begin].decode())
        phases = tuple(map(str, schema["phases"]))
        rows, rank = int(schema["rows"]), int(schema["rank"])
        step, launch = int(schema["step"]), int(schema["launch"])
        events = tuple(_event(entry, rank) for entry in schema["events"])
        places, bins, bins_bytes = list(schema["columns"]), list(schema["bins"]), int(schema["bins_bytes"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise SegmentError(name, f"has no valid schema: {type(error).__name__} {error}") from error
    if len(frame) != bins_bytes:
        raise SegmentError(name, f"has {len(frame)} bytes of bins; {bins_bytes} belong to it")
    columns = _whole(_columns(payload, begin, places, ROW_COLUMNS, name), rows, name)
    segment = Segment(rows, rank, step, launch, tensors, phases, events, columns, name, bins, frame)
    _check(segment, name)
    return segment


def decompressed(data: bytes, name: str) -> tuple[bytes, bytes]:
    """The content of the first frame, and what follows it. SegmentError if it is damaged or too large."""
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size > MAX_PAYLOAD:
            raise SegmentError(name, f"claims {size} bytes; at most {MAX_PAYLOAD} are read")
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        payload = decompressor.decompress(data)
        if decompressor.eof:
            return payload, decompressor.unused_data
    except zstandard.ZstdError as error:
        raise SegmentError(name, f"is damaged: {error}") from error
    raise SegmentError(name, "is truncated")


class _Keys:
    """Reads schemas. Most segments are about the same tensors as the one before, whose keys are then taken again.

    The list of tensors is nearly all of a schema, and reading it takes longer than all else that is done with a
    segment: where its text is the same, it is passed over.
    """

    _BEGIN = '"tensors":'
    # One tuple, so that no thread sees the text of one segment beside the keys of another.
    _last: ClassVar[tuple[str, tuple[TensorKey, ...]]] = ("", ())

    @classmethod
    def of(cls, text: str) -> tuple[dict[str, Any], tuple[TensorKey, ...]]:
        """The schema, and its keys in their order; what json and _key() raise for what is none."""
        known, keys = cls._last
        found = text.find(cls._BEGIN)
        begin = found + len(cls._BEGIN)
        if found >= 0 and known and text.startswith(known, begin) and '"tensors":null' not in text:
            schema = json.loads(f"{text[:begin]}null{text[begin + len(known) :]}")
            # Otherwise it was the list of something else, an event perhaps.
            if schema["tensors"] is None:
                return schema, keys
        schema = json.loads(text)
        keys = tuple(map(_key, schema["tensors"]))
        cls._last = json.dumps(schema["tensors"], separators=_SEPARATORS), keys
        return schema, keys


def _key(entry: dict[str, Any]) -> TensorKey:
    shape = tuple(int(extent) for extent in entry["shape"])
    facts = entry.get("facts", {})
    if not isinstance(facts, dict):
        raise TypeError("facts are no object")
    return TensorKey(str(entry["name"]), str(entry["collection"]), str(entry["dtype"]), shape, facts)


def _event(entry: dict[str, Any], rank: int) -> Event:
    data = entry["data"]
    if not isinstance(data, dict):
        raise TypeError("the data of an event are no object")
    return Event(int(entry["step"]), float(entry["time"]), str(entry["kind"]), data, rank)


def _columns(
    payload: bytes, begin: int, places: Sequence[dict[str, Any]], known: Mapping[str, tuple[str, Any]], name: str
) -> dict[str, Column]:
    """Columns that lie in a frame's content, at places that count from `begin`."""
    try:
        return {str(place["name"]): _column(payload, begin, place, known[place["name"]][0]) for place in places}
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise SegmentError(name, f"has no valid schema: {type(error).__name__} {error}") from error


def _column(payload: bytes, begin: int, place: dict[str, Any], known: str) -> Column:
    dtype, (offset, count) = np.dtype(known), (int(place["offset"]), int(place["count"]))
    if place["dtype"] != known or offset < 0 or count < 0:
        raise ValueError(f"column {place['name']} is not what the format says")
    if begin + offset + count * dtype.itemsize > len(payload):
        raise ValueError(f"column {place['name']} ends behind the segment")
    return from_planes(payload, begin + offset, dtype, count)


def to_planes(column: Column) -> bytes:
    """First bytes of all elements, then second bytes, and so on: bytes that are alike lie together."""
    elements = column.view(np.uint8).reshape(len(column), column.itemsize)
    planes = np.empty(elements.shape[::-1], np.uint8)
    # A plane at a time: a third of the time of a transposed copy.
    for plane, byte in zip(planes, elements.T, strict=True):
        plane[:] = byte
    return planes.tobytes()


def from_planes(payload: bytes, begin: int, dtype: "np.dtype[Any]", count: int) -> Column:
    """The elements of which to_planes() made bytes."""
    planes = np.frombuffer(payload, np.uint8, count * dtype.itemsize, begin).reshape(dtype.itemsize, count)
    elements = np.empty((count, dtype.itemsize), np.uint8)
    for byte, plane in zip(elements.T, planes, strict=True):
        byte[:] = plane
    return elements.view(dtype).reshape(count)


def _whole(columns: dict[str, Column], rows: int, name: str) -> dict[str, Column]:
    """Every column of the format, of the right length."""
    if not 0 <= rows <= MAX_PAYLOAD:
        raise SegmentError(name, f"claims {rows} rows")
    if rows and not columns:
        raise SegmentError(name, f"claims {rows} rows and has no column")
    whole = {}
    for column, (dtype, default) in ROW_COLUMNS.items():
        found = columns.get(column)
        if found is not None and len(found) != rows:
            raise SegmentError(name, f"has {rows} rows, and {len(found)} in column {column}")
        whole[column] = np.broadcast_to(np.array(default, dtype), (rows,)) if found is None else found
    return whole


def _check(segment: Segment, name: str) -> None:
    for column, known in (("tensor", segment.tensors), ("phase", segment.phases)):
        if segment.rows and int(segment.columns[column].max()) >= len(known):
            raise SegmentError(name, f"refers to {column} {int(segment.columns[column].max())} of {len(known)}")
