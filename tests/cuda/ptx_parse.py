"""PTX text as instructions. What is not known is an error."""

import re
from dataclasses import dataclass, field

from ptx_memory import PtxError

WIDTHS = {"pred": 1, "b8": 1, "b16": 2, "b32": 4, "b64": 8} | {
    f"{kind}{8 * width}": width for kind in "us" for width in (1, 2, 4, 8)
}
WIDTHS |= {"f16": 2, "f32": 4, "f64": 8}

_LABEL = re.compile(r"\s*([$\w]+):(?!:)")
_ENTRY = re.compile(r"\s*\.visible\s+\.entry\s+(\w+)\s*\(([^)]*)\)\s*((?:\.(?:maxntid|minnctapersm)[\s\d,]+)*)\{")
_PARAM = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(\w+)(?:\[(\d+)\])?")
_REGISTER = re.compile(r"\.reg\s+\.(\w+)\s+(%\w+)(?:<(\d+)>)?")
_SHARED = re.compile(r"\.extern\s+\.shared\s+\.align\s+(\d+)\s+\.b8\s+(\w+)\[\]")
_STATEMENT = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.]*)\s*(.*)", re.DOTALL)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*")
_NAME = re.compile(r"%\w+(?:\.\w+)?")


@dataclass
class Instruction:
    """One instruction, its registers named as in no scope but one."""

    opcode: str
    operands: list[str]
    line: int
    text: str
    predicate: str | None = None
    negated: bool = False
    used_bytes: int = 0xFFFFFFFF  # of a load: those that the program asked for, a bit each


@dataclass
class Entry:
    """A kernel. Registers: type by name. Parameters: offset and size by name."""

    name: str
    parameters: dict[str, tuple[int, int]] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    parameter_bytes: int = 0
    threads: int = 0


@dataclass
class Module:
    """The kernels of a text, and the alignment of each dynamic array in shared memory."""

    entries: dict[str, Entry] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)


def parse(text: str) -> Module:
    """A module of entries and dynamic shared memory; nothing else is known."""
    text = re.sub(r"//[^\n]*", "", text)
    module = Module()
    at = 0
    header = re.compile(r"\s*\.(?:version\s+[\d.]+|target\s+sm_\w+|address_size\s+64)(?=\s)")
    while text[at:].strip():
        if match := header.match(text, at):
            at = match.end()
        elif match := re.compile(r"\s*" + _SHARED.pattern + ";").match(text, at):
            module.shared[match[2]] = int(match[1])
            at = match.end()
        elif match := _ENTRY.match(text, at):
            entry = Entry(match[1])
            _parse_parameters(entry, match[2])
            limit = re.search(r"\.maxntid\s+(\d+)", match[3])
            entry.threads = int(limit[1]) if limit else 1024
            at = _parse_body(entry, text, match.end())
            module.entries[entry.name] = entry
        else:
            raise PtxError(f"line {text.count(chr(10), 0, at) + 1}: not understood: {text[at:].strip()[:80]}")
    return module


def _parse_parameters(entry: Entry, text: str) -> None:
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _PARAM.fullmatch(part)
        if not match or match[2] not in WIDTHS:
            raise PtxError(f"not a parameter: {part}")
        width = WIDTHS[match[2]]
        align, size = int(match[1] or width), width * int(match[4] or 1)
        first = -(-entry.parameter_bytes // align) * align
        entry.parameters[match[3]] = (first, size)
        entry.parameter_bytes = first + size


class _Body:
    """Where the parser is in a kernel."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.scopes: list[dict[str, str]] = [{}]
        self.count = 0
        self.used_bytes = 0xFFFFFFFF

    def declare(self, statement: str) -> None:
        match = _REGISTER.fullmatch(statement)
        if not match or match[1] not in WIDTHS:
            raise PtxError(f"not registers: {statement}")
        self.count += 1
        for i in range(int(match[3])) if match[3] else [None]:
            name = match[2] if i is None else f"{match[2]}{i}"
            own = name if len(self.scopes) == 1 else f"{name}@{self.count}"
            self.scopes[-1][name] = own
            self.entry.registers[own] = match[1]

    def resolve(self, name: str) -> str:
        if "." in name or name == "%laneid":
            return name
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        raise PtxError(f"{name} is not declared")

    def add(self, statement: str, line: int) -> None:
        if statement.startswith(".reg"):
            return self.declare(statement)
        if match := re.fullmatch(r'\.pragma\s+"(nounroll|used_bytes_mask (\d+))"', statement):
            self.used_bytes = int(match[2]) if match[2] else self.used_bytes
            return None
        match = _STATEMENT.fullmatch(statement)
        if not match:
            raise PtxError(f"line {line}: not understood: {statement}")
        operands = [_NAME.sub(lambda name: self.resolve(name[0]), part.strip()) for part in _OPERAND.findall(match[4])]
        predicate = self.resolve(match[2]) if match[2] else None
        text = " ".join(statement.split())
        instruction = Instruction(match[3], operands, line, text, predicate, bool(match[1]), self.used_bytes)
        self.used_bytes = 0xFFFFFFFF
        self.entry.instructions.append(instruction)
        return None


def _parse_body(entry: Entry, text: str, at: int) -> int:
    """Up to the brace that closes it; returns the place behind it."""
    body = _Body(entry)
    line, counted = 1 + text.count("\n", 0, at), at
    while True:
        while text[at].isspace():
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        if text[at] == "{":
            body.scopes.append({})
            at += 1
        elif text[at] == "}":
            body.scopes.pop()
            at += 1
            if not body.scopes:
                return at
        elif match := _LABEL.match(text, at):
            entry.labels[match[1]] = len(entry.instructions)
            at = match.end()
        else:
            end = text.index(";", at)
            body.add(text[at:end].strip(), line)
            at = end + 1
