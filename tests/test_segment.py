"""Segments: what was written comes back, docs/format.md suffices to read it, and no damage passes for data."""

import base64
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from samples import DTYPES, KINDS, STEADY, sample
from tensometer import _core
from tensometer.store import Event, Record, Segment, SegmentError, TensorKey, decode_segment, encode_segment

FORMAT = Path(__file__).resolve().parent.parent / "docs" / "format.md"
# Written by the first version of the format, and never to be written again.
GOLDEN = base64.b64decode((Path(__file__).resolve().parent / "golden" / "segment-1.b64").read_text(encoding="ascii"))


def key(name: str, x: Any, collection: str = "weights", **facts: Any) -> TensorKey:
    return TensorKey(name, collection, x.dtype.name, x.shape, facts)


def records(rng: np.random.Generator, steps: int = 3, **options: Any) -> list[Record]:
    """Every dtype and kind of data, at several steps."""
    result = []
    for step in range(steps):
        tensors = {f"{name} {kind}": sample(rng, name, 3000, kind) for name in DTYPES for kind in KINDS}
        table = tensometer.summarize_many(tensors, **options)
        keys = [key(name, x, learning_rate=0.1) for name, x in tensors.items()]
        result.append(Record(10 * step, 1e9 + step, "train" if step % 2 else "eval", keys, table))
    return result


OPTIONS: list[dict[str, Any]] = [{}, {"histogram": True, "resolution": 3}, {"histogram": True, "fingerprint": True}]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_statistic_comes_back(options: dict[str, Any], rng: np.random.Generator) -> None:
    given_records = records(rng, **options)
    segment = decode_segment(encode_segment(given_records, rank=7))
    assert (segment.rows, segment.rank) == (sum(len(r.keys) for r in given_records), 7)
    tables = [r.table for r in given_records]
    for statistic in tables[0].columns:
        if statistic == "fingerprint":
            found = segment.columns["fingerprint"]
        else:
            found = _core.unpack(segment.columns, statistic, segment.rows)
        expected = np.concatenate([table.column(statistic) for table in tables])
        np.testing.assert_array_equal(found, expected.astype(found.dtype))
    assert [segment.tensors[i] for i in segment.columns["tensor"]] == [k for r in given_records for k in r.keys]
    assert segment.columns["step"].tolist() == [r.step for r in given_records for _ in r.keys]
    assert segment.columns["time"].tolist() == [r.time for r in given_records for _ in r.keys]
    assert [segment.phases[i] for i in segment.columns["phase"]] == [r.phase for r in given_records for _ in r.keys]


def test_what_is_about_the_same_tensors_as_the_segment_before() -> None:
    """Their list is not read anew: nothing else may be taken for it, nor another list for the same."""
    first = TensorKey("a", "weights", "float32", (3,), {"tensors": [{"name": "b"}], "text": '"tensors":[]'})
    other = TensorKey("b", "weights", "float32", (3,))
    table = tensometer.summarize_many([np.ones(3, np.float32)])
    entry = {"name": "b", "collection": "weights", "dtype": "float32", "shape": [3]}
    said = [Event(0, 0.0, "said", {"tensors": [entry], "text": ',"tensors":[]'})]
    lists = [[first], [first, other], [first], [other], [other], [first, other]]
    for events in ([], said):
        for keys in lists:
            given = [Record(0, 0.0, "train", [key], table) for key in keys]
            segment = decode_segment(encode_segment(given, events=events))
            assert segment.tensors == tuple(keys)
            assert segment.events == tuple(events)
    nested = decode_segment(encode_segment([Record(0, 0.0, "train", [other], table)])).tensors
    schema = (
        b'{"events":[{"step":0,"time":0,"kind":"x","data":{"tensors":%s}}],"tensors":[],'
        % json.dumps([entry], separators=(",", ":")).encode()
        + schema_of().split(b'"tensors": [], ')[1]
    )
    assert nested == (other,)
    payload = struct.pack("<8sIIQ", b"tmzstats", 1, len(schema), 24 + len(schema)) + schema
    assert decode_segment(zstandard.ZstdCompressor().compress(payload)).tensors == ()
    schema = schema.replace(b'"tensors":[],', b'"tensors":null,')
    payload = struct.pack("<8sIIQ", b"tmzstats", 1, len(schema), 24 + len(schema)) + schema
    assert decode_segment(encode_segment([Record(0, 0.0, "train", [other], table)])).tensors == (other,)
    with pytest.raises(SegmentError, match="has no valid schema"):
        decode_segment(zstandard.ZstdCompressor().compress(payload))


def test_no_rows() -> None:
    for empty in ([], [Record(0, 0.0, "train", [], tensometer.summarize_many([]))]):
        segment = decode_segment(encode_segment(empty))
        assert segment.rows == 0
        assert all(len(column) == 0 for column in segment.columns.values())


def test_keys_and_rows_must_agree() -> None:
    table = tensometer.summarize_many([np.ones(3)])
    with pytest.raises(ValueError, match="keys: 0 given for a table of 1 rows"):
        encode_segment([Record(0, 0.0, "train", [], table)])


def test_sizes(rng: np.random.Generator) -> None:
    """Bytes for one tensor and step: at most 60 for scalars, 250 with the histogram that runs store."""
    shapes = [(1024, 512), (512,), (512, 512), (64, 3, 3, 3), (256, 64, 3, 3), (1000, 256), (128,)] * 3
    tensors = {f"layer.{i}": rng.standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)}
    for options, limit in (({}, 60), ({"histogram": True, "resolution": 3}, 250)):
        batch = []
        for step in range(10):
            for x in tensors.values():
                x += np.float32(1e-3) * rng.standard_normal(x.shape, np.float32)
            table = tensometer.summarize_many(tensors, **options)  # type: ignore[arg-type]
            batch.append(Record(step, 1.7e9 + step, "train", [key(n, x) for n, x in tensors.items()], table))
        assert len(encode_segment(batch)) <= limit * 10 * len(tensors)


GOLDEN_EVENT = Event(2, 1.5e9, "nonfinite", {"where": "forward", "module": "layer.0"})


def golden_records() -> list[Record]:
    x = {"a": np.arange(-4, 6, dtype=np.float32), "b": np.array([2**62, -1], np.int64), "c": np.full(3, np.nan)}
    return [
        Record(
            step,
            1.5e9 + step,
            ("train", "eval")[step % 2],
            [key(name, value, trainable=True) for name, value in x.items()],
            tensometer.summarize_many({n: v * (step + 1) for n, v in x.items()}, histogram=True, resolution=3),
        )
        for step in range(3)
    ]


def read_by_the_page(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs the program of docs/format.md on a file."""
    program = re.findall(r"```python\n(.*?)```", FORMAT.read_text(encoding="utf-8"), re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(program.replace('"rank-00000/000000000.tmz"', repr(str(path))), names)
    return names["schema"], names["columns"]


def test_the_golden_segment(tmp_path: Path) -> None:
    encoded = encode_segment(golden_records(), events=[GOLDEN_EVENT], step=4, launch=1)
    segment = decode_segment(GOLDEN)
    assert_equal(segment, decode_segment(encoded))
    (tmp_path / "golden.tmz").write_bytes(GOLDEN)
    schema, columns = read_by_the_page(tmp_path / "golden.tmz")
    assert [tensor["name"] for tensor in schema["tensors"]] == ["a", "b", "c"]
    assert (segment.step, segment.launch) == (schema["step"], schema["launch"]) == (4, 1)
    assert schema["tensors"][0]["facts"] == {"trainable": True}
    assert schema["events"] == [{"step": 2, "time": 1.5e9, "kind": "nonfinite", "data": dict(GOLDEN_EVENT.data)}]
    assert segment.events == (GOLDEN_EVENT,)
    assert columns["step"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert columns["min"].tolist()[:2] == [-4, -1]
    assert columns["integer_max"].tolist()[1] == 2**62
    assert columns["nan"].tolist()[2] == 3
    # The first row has the ten elements -4 .. 5, four below zero, each in a bin of its own.
    bins = np.cumsum(columns["bin_step"][: columns["histogram_bins"][0]])
    assert columns["histogram_resolution"][0] == 3
    assert ((bins < 1 << 11).sum(), (bins >= 1 << 11).sum(), columns["bin_count"][:10].tolist()) == (4, 6, [1] * 10)


def assert_equal(a: Segment, b: Segment) -> None:
    assert (a.rows, a.rank, a.step, a.launch) == (b.rows, b.rank, b.step, b.launch)
    assert (a.tensors, a.phases) == (b.tensors, b.phases)
    assert [k.facts for k in a.tensors] == [k.facts for k in b.tensors]
    for name in a.columns:
        np.testing.assert_array_equal(a.columns[name], b.columns[name])
    for name, column in a.bins().items():
        np.testing.assert_array_equal(column, b.bins()[name])


def test_every_byte_flipped_and_every_truncation() -> None:
    data = GOLDEN
    whole = decode_segment(data)
    for at in range(len(data)):
        for bit in (0, 7):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            try:
                found = decode_segment(bytes(damaged))
                found.bins()
            except SegmentError:
                continue
            assert_equal(found, whole)  # bits of the frame that say nothing about its content
        with pytest.raises(SegmentError, match=r"^x\.tmz: "):
            decode_segment(data[:at], "x.tmz")
    with pytest.raises(SegmentError):
        decode_segment(data + b"x")


@STEADY
@given(st.data())
def test_payloads_that_lie(data: st.DataObject) -> None:
    """Valid frames around damaged content: an error, or columns whose lengths agree."""
    payload = bytearray(zstandard.ZstdDecompressor().decompress(GOLDEN))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        segment = decode_segment(zstandard.ZstdCompressor().compress(bytes(payload)) + decode_segment(GOLDEN).frame)
        segment.bins()
    except SegmentError:
        return
    assert len(segment.columns["step"]) == segment.rows
    assert len(segment.bins()["bin_step"]) == int(segment.columns["histogram_bins"].sum())
    _core.unpack(segment.columns, "l2", segment.rows)


def schema_of(**changes: Any) -> bytes:
    lists: dict[str, Any] = {name: [] for name in ("tensors", "phases", "events", "columns", "bins")}
    return json.dumps(lists | {"rows": 0, "rank": 0, "step": -1, "launch": 0, "bins_bytes": 0} | changes).encode()


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (b"{", "has no valid schema"),
        (b"[]", "has no valid schema"),
        (b"{}", "has no valid schema: KeyError 'tensors'"),
        (schema_of(rows=1), "claims 1 rows and has no column"),
        (schema_of(rows=-1), "claims -1 rows"),
        (schema_of(events=[{}]), "has no valid schema"),
        (schema_of(bins_bytes=7), "has 0 bytes of bins; 7 belong to it"),
        (
            schema_of(rows=1, columns=[{"name": "step", "dtype": "<i8", "offset": 0, "count": 9}]),
            "ends behind the segment",
        ),
        (schema_of(columns=[{"name": "x", "dtype": "<i8", "offset": 0, "count": 0}]), "has no valid schema"),
        (schema_of(columns=[{"name": "bin_step", "dtype": "<u2", "offset": 0, "count": 0}]), "has no valid schema"),
        (b"[" * 100_000, "has no valid schema"),
    ],
)
def test_schemas_that_lie(schema: bytes, sentence: str) -> None:
    payload = struct.pack("<8sIIQ", b"tmzstats", 1, len(schema), 24 + len(schema)) + schema
    with pytest.raises(SegmentError, match=sentence):
        decode_segment(zstandard.ZstdCompressor().compress(payload))


def test_what_is_no_segment() -> None:
    frame = zstandard.ZstdCompressor().compress
    for data, sentence in (
        (b"", "is damaged"),
        (b"hello", "is damaged"),
        (frame(b""), "less than its header"),
        (frame(bytes(100)), "does not begin as a segment does"),
        (frame(struct.pack("<8sIIQ", b"tmzstats", 2, 0, 24)), "has version 2; this reader knows 1"),
        (frame(struct.pack("<8sIIQ", b"tmzstats", 1, 0, 99)), "speaks of 99"),
        (frame(bytes(1 << 20))[:-5], "truncated"),
    ):
        with pytest.raises(SegmentError, match=sentence):
            decode_segment(data)


@pytest.mark.parametrize(
    ("bins", "counts", "resolution"),
    [([3, 2], [1, 1], 3), ([1, 1], [1, 1], 3), ([1], [1, 2], 3), ([9999], [1], 3), ([1], [1], 8)],
)
def test_histograms_that_are_none(bins: list[int], counts: list[int], resolution: int) -> None:
    with pytest.raises(ValueError, match=r"state|resolution"):
        _core.log_histogram(np.array(bins), np.array(counts), resolution, False)


def test_columns_of_the_wrong_length() -> None:
    with pytest.raises(ValueError, match="columns: mean is not a column of 3 numbers"):
        _core.unpack({"mean": np.zeros(2)}, "l2", 3)
    with pytest.raises(ValueError, match="statistic: 'l3' is unknown"):
        _core.unpack({}, "l3", 3)


def test_columns_of_any_layout(rng: np.random.Generator) -> None:
    segment = decode_segment(encode_segment(records(rng, steps=1)))
    plain = {name: np.array(column) for name, column in segment.columns.items()}
    every_second = {name: np.repeat(column, 2)[::2] for name, column in plain.items()}
    unaligned = {}
    for name, column in plain.items():
        memory = np.zeros(column.nbytes + 1, np.uint8)[1:]
        memory[:] = column.view(np.uint8)
        unaligned[name] = memory.view(column.dtype)
    assert any(column.strides == (0,) for column in segment.columns.values())
    for statistic in ("l2", "var", "nan", "mean"):
        expected = _core.unpack(plain, statistic, segment.rows)
        for columns in (segment.columns, every_second, unaligned):
            np.testing.assert_array_equal(_core.unpack(columns, statistic, segment.rows), expected)
