"""What each PTX instruction does to registers that are vectors, an element a thread.

Each maker takes the match of its pattern, and where operands lie, and returns what runs: a function of the mask of
threads, an array of bool or True. An opcode that matches no pattern, modifiers included, is unknown.
"""

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from ptx_memory import Array, PtxError

Mask = Any  # an array of bool, or True: all threads
Run = Callable[[Mask], None]
DTYPES = {f"u{8 * width}": np.dtype(f"u{width}") for width in (1, 2, 4, 8)}
DTYPES |= {f"b{8 * width}": np.dtype(f"u{width}") for width in (1, 2, 4, 8)}
DTYPES |= {f"s{8 * width}": np.dtype(f"i{width}") for width in (1, 2, 4, 8)}
DTYPES |= {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "pred": np.dtype(np.bool_)}
_INT = "([us](?:16|32|64))"
_FLOAT = "(f32|f64)"
_BITS = "(b16|b32|b64|pred)"


class Operands(Protocol):
    """Where the operands of an instruction lie."""

    def count(self) -> int: ...
    def source(self, at: int, kind: str) -> Array:
        """A vector of that type, which shows what the operand is when the instruction runs."""

    def target(self, at: int, kind: str) -> Array:
        """The register to write, as that type; where the register is wider, as a wider type of its kind."""

    def parts(self, at: int) -> list["Operands"]:
        """The registers of a vector operand, each as the only operand."""


Maker = Callable[[re.Match[str], Operands], Run]
PATTERNS: list[tuple[re.Pattern[str], Maker]] = []


def operation(pattern: str) -> Callable[[Maker], Maker]:
    """Registers what makes the instructions whose whole opcode is so."""

    def register(maker: Maker) -> Maker:
        PATTERNS.append((re.compile(pattern), maker))
        return maker

    return register


def assign(target: Array, value: Callable[[], Array]) -> Run:
    return lambda mask: np.copyto(target, value(), where=mask, casting="unsafe")


def canonical(target: Array, run: Run) -> Run:
    """A float32 instruction returns one NaN and no other."""
    if target.dtype != np.float32:
        return run
    bits = target.view(np.uint32)

    def run_and_repair(mask: Mask) -> None:
        run(mask)
        if (nan := np.isnan(target)).any():
            bits[nan & mask] = 0x7FFFFFFF

    return run_and_repair


def _ufunc(ufunc: np.ufunc, kind: str, o: Operands) -> Run:
    target, sources = o.target(0, kind), [o.source(i, kind) for i in range(1, o.count())]
    if len(sources) != ufunc.nin:
        raise PtxError("another number of operands")
    return lambda mask: ufunc(*sources, out=target, where=mask)


@operation(rf"(add|sub|mul\.lo)\.{_INT}")
def _integer(match: re.Match[str], o: Operands) -> Run:
    return _ufunc({"add": np.add, "sub": np.subtract, "mul.lo": np.multiply}[match[1]], match[2], o)


@operation(rf"(add|sub|mul|div)\.rn\.{_FLOAT}")
def _float(match: re.Match[str], o: Operands) -> Run:
    ufunc = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[match[1]]
    return canonical(o.target(0, match[2]), _ufunc(ufunc, match[2], o))


@operation(rf"sqrt\.rn\.{_FLOAT}")
def _sqrt(match: re.Match[str], o: Operands) -> Run:
    return canonical(o.target(0, match[1]), _ufunc(np.sqrt, match[1], o))


@operation(rf"rcp\.rn\.{_FLOAT}")
def _rcp(match: re.Match[str], o: Operands) -> Run:
    a, target = o.source(1, match[1]), o.target(0, match[1])
    one = a.dtype.type(1)
    return canonical(target, lambda mask: np.divide(one, a, out=target, where=mask))


@operation(rf"(neg|abs)\.({_INT}|{_FLOAT})")
def _sign(match: re.Match[str], o: Operands) -> Run:
    return _ufunc(np.negative if match[1] == "neg" else np.absolute, match[2], o)


@operation(rf"(min|max)\.{_INT}")
def _integer_extreme(match: re.Match[str], o: Operands) -> Run:
    return _ufunc(np.minimum if match[1] == "min" else np.maximum, match[2], o)


@operation(rf"(min|max)\.{_FLOAT}")
def _float_extreme(match: re.Match[str], o: Operands) -> Run:
    a, b, target = o.source(1, match[2]), o.source(2, match[2]), o.target(0, match[2])
    lowest = match[1] == "min"

    def value() -> Array:
        bits = f"u{a.itemsize}"
        found = (np.fmin if lowest else np.fmax)(a, b)
        x, y = a.view(bits), b.view(bits)
        return np.where(a == b, (x | y if lowest else x & y).view(a.dtype), found)  # -0 < +0

    return canonical(target, assign(target, value))


def _halves(o: Operands, compute: Callable[..., Array]) -> Run:
    """Of float16 halves of words; one NaN and no other is returned."""
    sources = [o.source(i, "u32") for i in range(1, o.count())]

    def value() -> Array:
        found = compute(*(np.ascontiguousarray(source).view(np.uint16) for source in sources))
        return np.where(np.isnan(found.view(np.float16)), np.uint16(0x7FFF), found).view(np.uint32)

    return assign(o.target(0, "b32"), value)


@operation(r"(min|max)\.f16x2")
def _extremes_of_halves(match: re.Match[str], o: Operands) -> Run:
    lowest = match[1] == "min"

    def compute(a: Array, b: Array) -> Array:
        x, y = a.view(np.float16), b.view(np.float16)
        found = (np.fmin if lowest else np.fmax)(x, y).view(np.uint16)
        return np.where(x == y, a | b if lowest else a & b, found)  # -0 < +0

    return _halves(o, compute)


@operation(r"abs\.f16x2")
def _size_of_halves(match: re.Match[str], o: Operands) -> Run:
    return _halves(o, lambda a: a & np.uint16(0x7FFF))


@operation(rf"(and|or|xor)\.{_BITS}")
def _logic(match: re.Match[str], o: Operands) -> Run:
    return _ufunc({"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[match[1]], match[2], o)


@operation(rf"not\.{_BITS}")
def _not(match: re.Match[str], o: Operands) -> Run:
    return _ufunc(np.invert, match[1], o)


@operation(r"(mul|mad)\.wide\.([us])(16|32)")
def _wide(match: re.Match[str], o: Operands) -> Run:
    narrow, kind = match[2] + match[3], f"{match[2]}{2 * int(match[3])}"
    a, b, target = o.source(1, narrow), o.source(2, narrow), o.target(0, kind)
    c = o.source(3, kind) if match[1] == "mad" else DTYPES[kind].type(0)
    return assign(target, lambda: a.astype(target.dtype) * b + c)


@operation(rf"mul\.hi\.{_INT}")
def _high(match: re.Match[str], o: Operands) -> Run:
    a, b, target = o.source(1, match[1]), o.source(2, match[1]), o.target(0, match[1])
    return assign(target, lambda: (a.astype(object) * b.astype(object) >> 8 * a.itemsize).astype(target.dtype))


@operation(rf"mad\.lo\.{_INT}")
def _mad(match: re.Match[str], o: Operands) -> Run:
    a, b, c = (o.source(i, match[1]) for i in (1, 2, 3))
    return assign(o.target(0, match[1]), lambda: a * b + c)


@operation(rf"(div|rem)\.{_INT}")
def _divide(match: re.Match[str], o: Operands) -> Run:
    a, b, target = o.source(1, match[2]), o.source(2, match[2]), o.target(0, match[2])

    def run(mask: Mask) -> None:
        if ((b == 0) & mask).any():
            raise PtxError("an integer is divided by zero")
        rest = np.fmod(a, b)  # of the sign of a, as in C
        np.copyto(target, rest if match[1] == "rem" else (a - rest) // b, where=mask)

    return run


def _round(x: Fraction, digits: int, lowest: int) -> float:
    """To the nearest with so many bits, ties to even; no bit below 2^lowest."""
    if x == 0:
        return 0.0
    top = abs(x.numerator).bit_length() - x.denominator.bit_length()  # 2^(top - 1) < |x| < 2^(top + 1)
    exponent = top if abs(x) >= Fraction(2) ** top else top - 1
    unit = max(exponent - digits + 1, lowest)
    try:
        return math.ldexp(round(x / Fraction(2) ** unit), unit)
    except OverflowError:
        return math.inf if x > 0 else -math.inf


def _fma(a: float, b: float, c: float, single: bool) -> float:
    if math.isfinite(a) and math.isfinite(b):
        if not math.isfinite(c):
            return c
        product = Fraction(a) * Fraction(b)
        if product != 0:
            return _round(product + Fraction(c), *((24, -149) if single else (53, -1074)))
    return a * b + c


@operation(rf"fma\.rn\.{_FLOAT}")
def _fused(match: re.Match[str], o: Operands) -> Run:
    a, b, c = (o.source(i, match[1]) for i in (1, 2, 3))
    target = o.target(0, match[1])

    def value() -> Array:
        rows = zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
        return np.array([_fma(*row, single=match[1] == "f32") for row in rows]).astype(target.dtype)

    return canonical(target, assign(target, value))


@operation(r"(shl|shr)\.([bus])(16|32|64)")
def _shift(match: re.Match[str], o: Operands) -> Run:
    kind, bits = match[2] + match[3], int(match[3])
    a, by, target = o.source(1, kind), o.source(2, "u32"), o.target(0, kind)
    if match[1] == "shl":
        return assign(target, lambda: np.where(by < bits, a << np.minimum(by, bits - 1).astype(a.dtype), 0))
    if match[2] == "s":
        return assign(target, lambda: a >> np.minimum(by, bits - 1).astype(a.dtype))
    return assign(target, lambda: np.where(by < bits, a >> np.minimum(by, bits - 1).astype(a.dtype), 0))


@operation(r"shf\.([lr])\.(wrap|clamp)\.b32")
def _funnel(match: re.Match[str], o: Operands) -> Run:
    low, high, count = (o.source(i, "u32") for i in (1, 2, 3))

    def value() -> Array:
        by = (count & 31 if match[2] == "wrap" else np.minimum(count, 32)).astype(np.uint64)
        both = high.astype(np.uint64) << np.uint64(32) | low
        found = both << by >> np.uint64(32) if match[1] == "l" else both >> by
        return np.asarray(np.bitwise_and(found, np.uint64(0xFFFFFFFF)))

    return assign(o.target(0, "b32"), value)


def _ones(length: Array, dtype: np.dtype[Any]) -> Array:
    """So many low bits, of at most all."""
    bits = 8 * dtype.itemsize
    some = np.minimum(length, bits - 1).astype(dtype)
    found: Array = np.where(length >= bits, ~dtype.type(0), (dtype.type(1) << some) - dtype.type(1))
    return found


@operation(r"bfi\.(b32|b64)")
def _insert(match: re.Match[str], o: Operands) -> Run:
    a, b, target = o.source(1, match[1]), o.source(2, match[1]), o.target(0, match[1])
    first, length = o.source(3, "u32"), o.source(4, "u32")
    bits = 8 * a.itemsize

    def value() -> Array:
        at, size = first & 255, length & 255
        shift = np.minimum(at, bits - 1).astype(a.dtype)
        place = np.where(at < bits, _ones(size, a.dtype) << shift, 0).astype(a.dtype)
        found: Array = (a << shift) & place | b & ~place
        return found

    return assign(target, value)


@operation(r"bfe\.(u32|u64)")
def _extract(match: re.Match[str], o: Operands) -> Run:
    a, first, length = o.source(1, match[1]), o.source(2, "u32"), o.source(3, "u32")
    bits = 8 * a.itemsize

    def value() -> Array:
        at = first & 255
        shifted = np.where(at < bits, a >> np.minimum(at, bits - 1).astype(a.dtype), 0)
        return np.bitwise_and(shifted, _ones(length & 255, a.dtype))

    return assign(o.target(0, match[1]), value)


@operation(r"(clz|popc|brev)\.(b32|b64)")
def _count_bits(match: re.Match[str], o: Operands) -> Run:
    a = o.source(1, match[2])
    bits = 8 * a.itemsize
    one: Callable[[int], int] = {
        "clz": lambda x: bits - x.bit_length(),
        "popc": lambda x: x.bit_count(),
        "brev": lambda x: int(f"{x:0{bits}b}"[::-1], 2),
    }[match[1]]
    target = o.target(0, match[2] if match[1] == "brev" else "u32")
    return assign(target, lambda: np.array([one(x) for x in a.tolist()], target.dtype))


@operation(r"prmt\.b32")
def _permute(match: re.Match[str], o: Operands) -> Run:
    low, high, selector = (o.source(i, "u32") for i in (1, 2, 3))

    def value() -> Array:
        both = high.astype(np.uint64) << np.uint64(32) | low
        found = np.zeros_like(low)
        for k in range(4):
            choice = (selector >> np.uint32(4 * k)).astype(np.uint64) & np.uint64(15)
            byte = (both >> (choice & np.uint64(7)) * np.uint64(8)).astype(np.uint32) & np.uint32(255)
            byte = np.where(choice & np.uint64(8) != 0, (byte >> np.uint32(7)) * np.uint32(255), byte)
            found |= byte << np.uint32(8 * k)
        return found

    return assign(o.target(0, "b32"), value)


@operation(r"lop3\.b32")
def _lookup(match: re.Match[str], o: Operands) -> Run:
    a, b, c, table = (o.source(i, "u32") for i in (1, 2, 3, 4))
    masks = int(table[0])

    def value() -> Array:
        found = np.zeros_like(a)
        for row in filter(lambda row: masks >> row & 1, range(8)):
            found |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
        return found

    return assign(o.target(0, "b32"), value)
