"""PTX instructions that compare, choose, move and convert (see ptx_operations.py)."""

import functools
import operator
import re
from collections.abc import Callable

import numpy as np
from ptx_memory import Array, PtxError
from ptx_operations import DTYPES, PATTERNS, Maker, Mask, Operands, Run, assign, canonical, operation

_COMPARE = {"eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt} | {
    "ge": operator.ge, "lo": operator.lt, "ls": operator.le, "hi": operator.gt, "hs": operator.ge
}  # fmt: skip


def _unordered(a: Array, b: Array) -> Array:
    return np.isnan(a) | np.isnan(b)


@operation(r"setp\.(\w+)(?:\.(and|or|xor))?\.([usb](?:16|32|64)|f32|f64)")
def _compare(match: re.Match[str], o: Operands) -> Run:
    name, kind = match[1], match[3]
    a, b, target = o.source(1, kind), o.source(2, kind), o.target(0, "pred")
    real = kind[0] == "f"
    test: Callable[[Array, Array], Array]
    if real and name in ("num", "nan"):
        test = _unordered if name == "nan" else lambda a, b: ~_unordered(a, b)
    elif real and name[-1] == "u" and name[:-1] in ("eq", "ne", "lt", "le", "gt", "ge"):
        compare = _COMPARE[name[:-1]]
        test = lambda a, b: compare(a, b) | _unordered(a, b)  # noqa: E731
    elif real and name == "ne":
        test = lambda a, b: (a != b) & ~_unordered(a, b)  # noqa: E731
    elif name in _COMPARE and not (real and name[0] in "lh" and name not in ("lt", "le")):
        test = _COMPARE[name]
    else:
        raise PtxError(f"unknown comparison {name}")
    if match[2] is None:
        return lambda mask: np.copyto(target, test(a, b), where=mask)
    c, join = o.source(3, "pred"), {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[match[2]]
    return lambda mask: np.copyto(target, join(test(a, b), c), where=mask)


@operation(r"selp\.([bus](?:16|32|64)|f32|f64)")
def _select(match: re.Match[str], o: Operands) -> Run:
    a, b, choice = o.source(1, match[1]), o.source(2, match[1]), o.source(3, "pred")
    return assign(o.target(0, match[1]), lambda: np.where(choice, a, b))


@operation(r"slct\.([bus](?:16|32|64)|f32|f64)\.s32")
def _select_by_sign(match: re.Match[str], o: Operands) -> Run:
    a, b, choice = o.source(1, match[1]), o.source(2, match[1]), o.source(3, "s32")
    return assign(o.target(0, match[1]), lambda: np.where(choice >= 0, a, b))


@operation(r"mov\.([bus](?:16|32|64)|f32|f64|pred)")
def _move(match: re.Match[str], o: Operands) -> Run:
    kind = match[1]
    if o.parts(0):
        return _unpack(kind, o)
    if parts := o.parts(1):
        part = _part(kind, parts)
        target, sources = o.target(0, kind), [each.source(0, part) for each in parts]
        return assign(target, lambda: np.stack(sources, axis=-1).view(target.dtype)[:, 0])
    register, source = o.target(0, kind), o.source(1, kind)
    return lambda mask: np.copyto(register, source, where=mask)


def _part(kind: str, parts: list["Operands"]) -> str:
    if kind[0] != "b" or len(parts) not in (2, 4):
        raise PtxError("a vector of another type or length")
    return f"b{int(kind[1:]) // len(parts)}"


def _unpack(kind: str, o: Operands) -> Run:
    parts = o.parts(0)
    part = _part(kind, parts)
    source, targets = o.source(1, kind), [each.target(0, part) for each in parts]

    def run(mask: Mask) -> None:
        pieces = source.view(DTYPES[part]).reshape(-1, len(targets))
        for k, target in enumerate(targets):
            np.copyto(target, pieces[:, k], where=mask)

    return run


def _to_integer(x: Array, kind: str, rounding: str) -> Array:
    """Saturates, as PTX does."""
    whole = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[rounding](x)
    info = np.iinfo(DTYPES[kind])
    inside = (whole >= float(info.min)) & (whole < 2.0 * float(info.max // 2 + 1))
    found = np.where(inside, whole, 0).astype(DTYPES[kind])
    found = np.where(~inside & (whole > 0), info.max, np.where(~inside & (whole < 0), info.min, found))
    nan = 0
    if x.dtype == np.float64 or kind in ("s64", "u64"):
        nan = info.min if kind[0] == "s" else 1 << (info.bits - 1)
    return np.where(np.isnan(x), np.array(nan, DTYPES[kind]), found.astype(DTYPES[kind]))


@operation(r"cvt(?:\.(rn|rni|rzi|rmi|rpi))?\.([us](?:8|16|32|64)|f32|f64)\.([us](?:8|16|32|64)|f32|f64)")
def _convert(match: re.Match[str], o: Operands) -> Run:
    rounding, to, of = match.groups()
    source, target = o.source(1, of), o.target(0, to)
    needed = {
        ("f", "i"): ("rn",),
        ("i", "i"): (None,),
        ("i", "f"): ("rni", "rzi", "rmi", "rpi"),
        ("f", "f"): ("rn",) if to < of else (None,) if to > of else ("rni", "rzi", "rmi", "rpi"),
    }[tuple("f" if kind[0] == "f" else "i" for kind in (to, of))]  # type: ignore[index]
    if rounding not in needed:
        raise PtxError("a conversion rounded so is unknown")
    if of[0] == "f" and to[0] != "f":
        return assign(target, lambda: _to_integer(source, to, str(rounding)))
    if of == to and to[0] == "f":
        whole = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[str(rounding)]
        return canonical(target, assign(target, lambda: whole(source)))
    return canonical(target, assign(target, lambda: source.astype(DTYPES[to])))


@operation(r"cvt\.f32\.f16")
def _widen_half(match: re.Match[str], o: Operands) -> Run:
    source, target = o.source(1, "b16"), o.target(0, "f32")
    return canonical(target, assign(target, lambda: source.view(np.float16).astype(np.float32)))


@functools.cache
def _maker(opcode: str) -> tuple[Maker, re.Match[str]] | None:
    for pattern, maker in PATTERNS:
        if match := pattern.fullmatch(opcode):
            return maker, match
    return None


def make(opcode: str, operands: Operands) -> Run:
    """What runs for an opcode."""
    if (found := _maker(opcode)) is None:
        raise PtxError("unknown instruction")
    maker, match = found
    return maker(match, operands)
