"""The PTX interpreter itself: instructions against Python's exact arithmetic, and what it must refuse."""

import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from ptx import Kernel, Memory, PtxError, parse
from ptx_memory import Array

HEADER = ".version 8.0\n.target sm_75\n.address_size 64\n.extern .shared .align 16 .b8 memory[];\n"
INF, NAN = math.inf, math.nan


def run(body: str, *inputs: Array, out: str = "u32", width: int = 4, threads: int = 32, shared: int = 1024) -> Array:
    """Runs a body. %rd0 is where this thread's result goes, %rd1... where its operands lie; the result is in %out."""
    memory = Memory(1 << 20)
    count = len(inputs) + 1
    parameters = ",".join(f".param .u64 p{i}" for i in range(count))
    setup = ""
    for i in range(count):
        size = width if i == 0 else inputs[i - 1].itemsize
        setup += f"ld.param.u64 %rd{i}, [p{i}]; mad.wide.u32 %rd{i}, %r0, {size}, %rd{i};\n"
    register = {2: "b16", 4: "b32", 8: "b64"}[width]
    text = f"""{HEADER}.visible .entry k({parameters}) .maxntid {threads}, 1, 1 {{
.reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .f64 %fd<9>; .reg .b64 %rd<9>;
.reg .{register if out[0] != "f" else out} %out;
mov.u32 %r0, %tid.x;
{setup}{body}
st.global.{out} [%rd0], %out;
DONE: ret;
}}"""
    given = [memory.place(np.zeros(threads * width, np.uint8), writable=True)]
    given += [memory.place(np.resize(x, threads)) for x in inputs]
    Kernel(parse(text), "k", threads, memory).launch(1, shared, struct.pack(f"{count}Q", *given))
    kind = {"u": "u", "s": "i", "b": "u", "f": "f"}[out[0]]
    return memory.take(given[0], f"{kind}{width}", threads)


def doubles(rng: np.random.Generator, count: int = 32) -> Array:
    """Of all sizes."""
    x = np.frombuffer(rng.bytes(8 * count), np.float64).copy()
    x[:7] = INF, -INF, NAN, 0.0, -0.0, 5e-324, 1.7e308
    return x


def rounded(x: Fraction) -> float:
    """Python's own division of integers rounds once."""
    return x.numerator / x.denominator


def test_fma_rounds_once(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal(32), rng.standard_normal(32)
    c = -(a * b)  # what is left is the error of the product
    body = "ld.global.f64 %fd1, [%rd1]; ld.global.f64 %fd2, [%rd2]; ld.global.f64 %fd3, [%rd3];"
    found = run(body + "fma.rn.f64 %out, %fd1, %fd2, %fd3;", a, b, c, out="f64", width=8)
    exact = [rounded(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in zip(a, b, c, strict=True)]
    assert found.tolist() == exact
    assert any(exact)
    x, y = doubles(rng), doubles(rng)[::-1].copy()
    found = run(body + "fma.rn.f64 %out, %fd1, %fd2, %fd3;", x, y, np.array([0.0]), out="f64", width=8)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, x * y + 0.0)


def test_single_fma_rounds_once() -> None:
    # The sum lies just above the middle of two float32: rounding to float64 first would take it to the even one below.
    a, b, c = np.float32(1 + 2**-12), np.float32(1 + 2**-12), np.float32(2.0**-60)
    body = "ld.global.f32 %f1, [%rd1]; ld.global.f32 %f2, [%rd2]; ld.global.f32 %f3, [%rd3];"
    found = run(body + "fma.rn.f32 %out, %f1, %f2, %f3;", *(np.array([x]) for x in (a, b, c)), out="f32")
    assert found[0] == np.float32(1 + 2**-11 + 2**-23)
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) == np.float32(1 + 2**-11)


def test_minimum_and_maximum_of_zeros_and_nan() -> None:
    a, b = np.array([0.0, -0.0, NAN, 1.0, NAN, INF]), np.array([-0.0, 0.0, 2.0, NAN, NAN, -INF])
    body = "ld.global.f64 %fd1, [%rd1]; ld.global.f64 %fd2, [%rd2];"
    low = run(body + "min.f64 %out, %fd1, %fd2;", a, b, out="f64", width=8)[:6]
    high = run(body + "max.f64 %out, %fd1, %fd2;", a, b, out="f64", width=8)[:6]
    assert np.signbit(low[:2]).all()
    assert not np.signbit(high[:2]).any()
    np.testing.assert_array_equal(low[2:], [2, 1, NAN, -INF])
    np.testing.assert_array_equal(high[2:], [2, 1, NAN, INF])


def test_float32_has_one_nan() -> None:
    found = run("ld.global.f32 %f1, [%rd1]; add.rn.f32 %out, %f1, %f1;", np.array([0xFFC12345], np.uint32), out="f32")
    assert set(found.view(np.uint32).tolist()) == {0x7FFFFFFF}


def test_float_comparisons() -> None:
    a, b = np.array([1.0, NAN, 2.0, 2.0]), np.array([2.0, 1.0, 1.0, 2.0])
    expected = {"lt": "1000", "ltu": "1100", "ge": "0011", "geu": "0111", "eq": "0001", "equ": "0101", "ne": "1010"}
    expected |= {"neu": "1110", "num": "1011", "nan": "0100"}
    for name, wanted in expected.items():
        body = "ld.global.f64 %fd1, [%rd1]; ld.global.f64 %fd2, [%rd2];"
        found = run(f"{body} setp.{name}.f64 %p1, %fd1, %fd2; selp.u32 %out, 1, 0, %p1;", a, b)
        assert "".join(map(str, found[:4].tolist())) == wanted, name


@pytest.mark.parametrize(
    ("opcode", "source", "wanted"),
    [
        ("cvt.rzi.s32.f64", [1.9, -1.9, 3e9, -3e9, INF], [1, -1, 2**31 - 1, -(2**31), 2**31 - 1]),
        ("cvt.rni.s32.f64", [0.5, 1.5, -2.5, NAN], [0, 2, -2, -(2**31)]),
        ("cvt.rzi.u32.f64", [-1.0, 5e9, 7.5], [0, 2**32 - 1, 7]),
    ],
)
def test_conversions_saturate(opcode: str, source: list[float], wanted: list[int]) -> None:
    out = opcode.split(".")[2]
    found = run(f"ld.global.f64 %fd1, [%rd1]; {opcode} %out, %fd1;", np.array(source), out=out)
    assert found[: len(wanted)].tolist() == wanted


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("shl.b32 %out, %r1, 40;", lambda x: 0),
        ("shr.u32 %out, %r1, 32;", lambda x: 0),
        ("shr.s32 %out, %r1, 99;", lambda x: 0xFFFFFFFF if x >> 31 else 0),
        ("clz.b32 %out, %r1;", lambda x: 32 - x.bit_length()),
        ("popc.b32 %out, %r1;", lambda x: x.bit_count()),
        ("brev.b32 %out, %r1;", lambda x: int(f"{x:032b}"[::-1], 2)),
        ("mul.hi.u32 %out, %r1, %r1;", lambda x: x * x >> 32),
        ("bfe.u32 %out, %r1, 5, 7;", lambda x: x >> 5 & 127),
        ("bfi.b32 %out, %r1, 0, 8, 4;", lambda x: (x & 15) << 8),
        ("prmt.b32 %out, %r1, 0, 0x0123;", lambda x: int.from_bytes(x.to_bytes(4, "little"), "big")),
        ("shf.l.wrap.b32 %out, %r1, %r1, 9;", lambda x: (x << 9 | x >> 23) & 0xFFFFFFFF),
        ("lop3.b32 %out, %r1, 0xff, 0xf0f0, 0xea;", lambda x: x & 0xFF | 0xF0F0),
        ("div.s32 %out, %r1, -7;", lambda x: math.trunc(Fraction(x - (x >> 31 << 32), -7)) & 0xFFFFFFFF),
        ("rem.s32 %out, %r1, 7;", lambda x: int(math.fmod(x - (x >> 31 << 32), 7)) & 0xFFFFFFFF),
        ("cvt.u16.u32 %rs1, %r1; cvt.s32.s16 %out, %rs1;", lambda x: ((x & 0xFFFF) - (x >> 15 & 1) * 65536) % 2**32),
    ],
)
def test_integers(code: str, wanted: object, rng: np.random.Generator) -> None:
    x = rng.integers(0, 2**32, 32, np.uint32)
    x[:3] = 0, 2**32 - 1, 2**31
    assert callable(wanted)
    assert run(f"ld.global.u32 %r1, [%rd1]; {code}", x).tolist() == [wanted(each) for each in x.tolist()]


def test_shuffles() -> None:
    lanes = np.arange(32)
    expected = {
        "down.b32 %out, %r0, 5, 31": np.where(lanes + 5 < 32, lanes + 5, lanes),
        "up.b32 %out, %r0, 5, 0": np.where(lanes >= 5, lanes - 5, lanes),
        "bfly.b32 %out, %r0, 9, 31": lanes ^ 9,
        "idx.b32 %out, %r0, 3, 0x181f": lanes // 8 * 8 + 3,
        "down.b32 %out, %r0, 2, 0x181f": np.where(lanes % 8 < 6, lanes + 2, lanes),
    }
    for code, wanted in expected.items():
        assert run(f"shfl.sync.{code}, -1;").tolist() == wanted.tolist(), code


def test_atomic_additions_at_one_place() -> None:
    body = "setp.ne.u32 %p1, %r0, 0; @%p1 bra NEXT; st.shared.u32 [memory], 100; NEXT: bar.sync 0;"
    assert sorted(run(body + "atom.shared.add.u32 %out, [memory], 3;").tolist()) == list(range(100, 196, 3))
    body += "red.shared.add.u32 [memory], 2; bar.sync 0; ld.shared.u32 %out, [memory];"
    assert set(run(body).tolist()) == {164}


def test_threads_part_and_meet() -> None:
    body = """mov.u32 %out, 0; mov.u32 %r1, %r0;
    LOOP: setp.eq.u32 %p1, %r1, 0; @%p1 bra END; add.u32 %out, %out, %r1; sub.u32 %r1, %r1, 1; bra LOOP;
    END: bar.warp.sync -1;"""
    assert run(body).tolist() == [k * (k + 1) // 2 for k in range(32)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("add.rn.ftz.f32 %f1, %f1, %f1;", "unknown instruction"),
        ("add.f32 %f1, %f1, %f1;", "unknown instruction"),
        ("ld.global.cv.u32 %out, [%rd0];", "unknown instruction"),
        ("ld.global.u32 %out, [%rd0+128];", "no global memory"),
        ("ld.global.u64 %rd8, [%rd0+4];", "not aligned"),
        ("ld.shared.u32 %out, [memory+1024];", "no shared memory"),
        ("st.shared.u32 [memory], %r0;", "two threads write one place"),
        ("shl.b32 %r1, %r0, 2; st.shared.u32 [%r1+1024], 1; ld.shared.u32 %out, [memory];", "race"),
        ("setp.lt.u32 %p1, %r0, 9; @%p1 bra DONE; bar.sync 0;", "wait for others for ever"),
        ("setp.lt.u32 %p1, %r0, 9; @%p1 bra DONE; shfl.sync.idx.b32 %out, %r0, 0, 31, -1;", "wait for others"),
        ("shfl.sync.idx.b32 %out, %r0, 0, 31, 1;", "not themselves"),
        ("div.u32 %out, %r0, 0;", "divided by zero"),
        ("add.u32 %out, %r0, %nothing;", "not declared"),
    ],
)
def test_refused(body: str, message: str) -> None:
    with pytest.raises(PtxError, match=message):
        run(body)


def test_barriers_order() -> None:
    body = "shl.b32 %r1, %r0, 2; add.u32 %r1, %r1, 1024; st.shared.u32 [%r1], %r0; {} ld.shared.u32 %out, [memory+4];"
    assert set(run(body.format("bar.warp.sync -1;")).tolist()) == {1}
    assert set(run(body.format("bar.sync 0;"), threads=64).tolist()) == {1}
    with pytest.raises(PtxError, match="race"):
        run(body.format("bar.warp.sync -1;"), threads=64)
