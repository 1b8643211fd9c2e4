"""Registers of a thread block in the PTX interpreter: vectors, an element a thread; and how operands name them."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from ptx_memory import SHARED_FIRST, Array, PtxError
from ptx_operations import DTYPES
from ptx_parse import WIDTHS


class Registers:
    """All registers of a kernel, by name."""

    def __init__(self, types: dict[str, str], shared: tuple[str, ...], threads: int) -> None:
        self.types, self.shared, self.threads = types, shared, threads
        self.special = {
            "%tid.x": np.arange(threads, dtype=np.uint32),
            "%laneid": np.arange(threads, dtype=np.uint32) % np.uint32(32),
            "%ntid.x": np.full(threads, threads, np.uint32),
            "%ctaid.x": np.zeros(threads, np.uint32),
            "%nctaid.x": np.zeros(threads, np.uint32),
        }
        self.pools = {width: np.zeros((0, threads), f"u{width}") for width in (1, 2, 4, 8)}
        self.rows: dict[str, Array] = {}
        self._allocate()

    def _allocate(self) -> None:
        for width in self.pools:
            names = [name for name, kind in self.types.items() if WIDTHS[kind] == width]
            self.pools[width] = np.zeros((len(names) + 1, self.threads), f"u{width}")
            rows = self.pools[width].view(np.bool_) if width == 1 else self.pools[width]
            self.rows |= dict(zip(names, rows, strict=False))

    def source(self, name: str, kind: str) -> Array:
        """An operand as a vector of that type."""
        if name in self.special:
            return self._viewed(self.special[name], name, kind)
        if name in self.rows:
            return self._viewed(self.rows[name], name, kind)
        if name in self.shared and kind[0] != "f":
            return np.full(self.threads, SHARED_FIRST, DTYPES[kind])
        return np.full(self.threads, _immediate(name, kind))

    def _viewed(self, register: Array, name: str, kind: str) -> Array:
        dtype = DTYPES[kind]
        if (register.dtype == np.bool_) != (kind == "pred") or register.itemsize < dtype.itemsize:
            raise PtxError(f"{name} is no {kind}")
        return register.view(dtype)[:: register.itemsize // dtype.itemsize]

    def target(self, name: str, kind: str) -> Array:
        """A register to write; a wider one as a wider type of that kind."""
        if name == "_":
            return np.zeros(self.threads, DTYPES[kind])
        if name not in self.rows:
            raise PtxError(f"{name} is no register")
        register = self.rows[name]
        if register.itemsize > DTYPES[kind].itemsize:
            if kind[0] == "f":
                raise PtxError(f"{name} is no {kind}")
            return register.view(f"{'i' if kind[0] == 's' else 'u'}{register.itemsize}")
        return self._viewed(register, name, kind)


class Operands:
    """The operands of one instruction, in the registers of a kernel."""

    def __init__(self, values: "Registers", names: Sequence[str]) -> None:
        self.values, self.names = values, names

    def count(self) -> int:
        return len(self.names)

    def source(self, at: int, kind: str) -> Array:
        return self.values.source(self.names[at], kind)

    def target(self, at: int, kind: str) -> Array:
        return self.values.target(self.names[at], kind)

    def parts(self, at: int) -> list[Any]:
        name = self.names[at]
        return [Operands(self.values, [part]) for part in parts_of(name)] if name[0] == "{" else []


def parts_of(operand: str) -> list[str]:
    return [part.strip() for part in operand.strip("{}").split(",")]


def _immediate(text: str, kind: str) -> Any:
    if match := re.fullmatch(r"0([fd])([0-9A-Fa-f]+)", text):
        single = match[1] == "f"
        if len(match[2]) != (8 if single else 16) or kind not in (("f32", "b32") if single else ("f64", "b64")):
            raise PtxError(f"{text} is no {kind}")
        return np.array(int(match[2], 16), np.uint32 if single else np.uint64).view(DTYPES[kind])
    if not re.fullmatch(r"-?(?:0x[0-9A-Fa-f]+|\d+)U?", text) or kind[0] == "f":
        raise PtxError(f"{text} is no operand of type {kind}")
    value = int(text.rstrip("U"), 0)
    if kind == "pred":
        return value != 0
    bits = 8 * WIDTHS[kind]
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise PtxError(f"{text} does not fit {kind}")
    return np.array(value % (1 << bits), f"u{WIDTHS[kind]}").view(DTYPES[kind])
