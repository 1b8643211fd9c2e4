"""What nvcc has made of the kernels for an architecture: resources, and the machine's instructions, loop by loop."""

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

_FUNCTION = re.compile(r"\.text\.(\S+):")
_LABEL = re.compile(r"(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*(.*?)\s*;")
_GOAL = re.compile(r"`\((\.L_x_\d+)\)")
_RESOURCES = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+)")


@dataclass(frozen=True)
class Resources:
    """What a kernel takes."""

    registers: int
    stack: int


def is_load(opcode: str) -> bool:
    """Whether it loads from memory that may be global."""
    return re.match(r"LDG?(\.|$)", opcode) is not None


@dataclass(frozen=True)
class Loop:
    """The opcodes of a loop along the shortest way through it; those beside it; and the loops among these."""

    opcodes: tuple[str, ...]
    beside: tuple[str, ...] = ()
    inner: tuple["Loop", ...] = ()

    @cached_property
    def operations(self) -> Counter[str]:
        """How often each operation is there, without modifiers."""
        return Counter(opcode.split(".")[0] for opcode in self.opcodes)

    @property
    def wide_loads(self) -> int:
        """Loads of 16 bytes of memory that may be global."""
        return sum(is_load(opcode) and ".128" in opcode for opcode in self.opcodes)

    @property
    def narrow_loads(self) -> int:
        """Others of such memory, beside the shortest way too."""
        return sum(is_load(opcode) and ".128" not in opcode for opcode in self.opcodes + self.beside)

    @property
    def longest(self) -> int:
        """Instructions where all loads are made once more, by inner loops if any load."""
        loading = [loop for loop in self.inner if loop.wide_loads]
        again = sum((self.wide_loads // loop.wide_loads - 1) * len(loop.opcodes) for loop in loading)
        return len(self.opcodes) + len(self.beside) + again


@dataclass(frozen=True)
class Image:
    """The kernels of one architecture."""

    architecture: int
    resources: dict[str, Resources]
    text: str

    @cached_property
    def loops(self) -> list[Loop]:
        """The loops of the reducing kernel."""
        return loops(self.text, "tensometer_reduce")


def tool(name: str, *arguments: Path | str, folder: Path) -> str:
    """What a program says that comes in a package of its own."""
    path = next(file for file in files(f"nvidia-cuda-{name}") or () if file.name == name).locate()
    return subprocess.run([str(path), *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def read_images(container: Path, folder: Path) -> dict[int, Image]:
    """The images in a file of nvcc's, by their architectures; they are put into an empty folder."""
    tool("cuobjdump", "-xelf", "all", container, folder=folder)
    images = {}
    for cubin in folder.glob("*.cubin"):
        architecture = int(re.findall(r"sm_(\d+)", cubin.name)[-1])
        resources = {
            name: Resources(int(registers), int(stack))
            for name, registers, stack in _RESOURCES.findall(
                tool("cuobjdump", "--dump-resource-usage", cubin, folder=folder)
            )
        }
        images[architecture] = Image(architecture, resources, tool("nvdisasm", "-c", cubin, folder=folder))
    return images


def loops(text: str, function: str) -> list[Loop]:
    """The loops of a function, each from where a branch goes back to, to that branch."""
    inside = False
    labels: dict[str, int] = {}
    code: list[re.Match[str]] = []
    for line in text.splitlines():
        if match := _FUNCTION.match(line):
            inside = match[1] == function
        elif inside and (match := _LABEL.match(line)):
            labels[match[1]] = len(code)
        elif inside and (match := _INSTRUCTION.match(line)):
            code.append(match)
    goals = {
        at: labels[goal[1]]
        for at, match in enumerate(code)
        if match[2].startswith("BRA") and (goal := _GOAL.search(match[3])) and goal[1] in labels
    }
    spans = [(first, end) for end, first in sorted(goals.items()) if first <= end]
    ways = {span: way for span in spans if (way := shortest_way(code, goals, *span))}

    def loop(span: tuple[int, int]) -> Loop:
        way = ways[span]
        beside = sorted({*range(span[0], span[1] + 1)} - {*way})
        inner = [other for other in ways if other != span and {*range(other[0], other[1] + 1)} <= {*beside}]
        return Loop(
            tuple(code[at][2] for at in way), tuple(code[at][2] for at in beside), tuple(loop(each) for each in inner)
        )

    return [loop(span) for span in ways]


def shortest_way(code: list[re.Match[str]], goals: dict[int, int], first: int, end: int) -> list[int]:
    """The fewest instructions that lead from one to another behind it, without a branch back; none: there is no way."""
    before: dict[int, int] = {}
    length = {first: 1}
    for at in range(first, end):
        if at not in length:
            continue
        ahead = [at + 1] if code[at][1] or code[at][2] not in ("BRA", "EXIT") else []
        for to in [*ahead, goals.get(at, 0)]:
            if at < to <= end and length.get(to, len(code)) > length[at] + 1:
                length[to], before[to] = length[at] + 1, at
    if end not in length:
        return []
    way = [end]
    while way[-1] != first:
        way.append(before[way[-1]])
    return way[::-1]
