"""Executes PTX, as a compiler emitted it, thread block by thread block.

All threads of a block are one vector; each has a place in the program, and those at the lowest place run together.
Where they must meet (bar.sync, bar.warp.sync, shfl.sync, vote.sync) all named threads have to come to one instruction.
Memory is checked (ptx_memory.py), and what the instructions compute is exact (ptx_operations.py).
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from ptx_memory import ATOMIC, CELL, POISON, READ, READABLE, SHARED_FIRST, WRITABLE, WRITE, Array, Memory, PtxError
from ptx_moves import make
from ptx_operations import DTYPES, Mask, Run
from ptx_parse import WIDTHS, Entry, Instruction, Module, parse
from ptx_registers import Operands, Registers, parts_of

__all__ = ["Kernel", "Memory", "Module", "PtxError", "parse"]

_MEMORY = re.compile(
    r"(?:ld\.global\.nc|ld\.volatile\.shared|(?:ld|st)(?:\.(?:param|global|shared))?)"
    r"(?:\.v([24]))?\.([usb](?:8|16|32|64)|f32|f64)"
)
_SPACE = re.compile(r"\.(param|global|shared)")
_ATOMIC = re.compile(r"(atom|red)(?:\.(global|shared))?\.(add|min|max|and|or|xor|exch|cas)\.([usb](?:32|64))")
_MEET = re.compile(r"bar\.sync|bar\.warp\.sync|shfl\.sync\.(?:up|down|bfly|idx)\.b32|vote\.sync\.\w+\.\w+")
_ADDRESS = re.compile(r"\[([%\w.@$]+)(?:\+?(-?\d+))?\]")
_ATOMS: dict[str, Callable[[int, list[int]], int]] = {
    "add": lambda old, given: old + given[0],
    "min": lambda old, given: min(old, given[0]),
    "max": lambda old, given: max(old, given[0]),
    "and": lambda old, given: old & given[0],
    "or": lambda old, given: old | given[0],
    "xor": lambda old, given: old ^ given[0],
    "exch": lambda old, given: given[0],
    "cas": lambda old, given: given[1] if old == given[0] else old,
}


def _space(opcode: str) -> str:
    """Which memory an instruction names."""
    return match[1] if (match := _SPACE.search(opcode)) else "generic"


@dataclass
class _Segment:
    """Instructions that run one after another, and how they end: a place to go to, perhaps where a predicate holds."""

    end: int
    steps: list[tuple[Instruction, Run]] = field(default_factory=list)
    last: Instruction | None = None
    goal: int = -1
    condition: Callable[[], Array] | None = None
    meet: Callable[[Array], Array] | None = None


class Kernel:
    """An entry of a module for thread blocks of so many threads."""

    def __init__(self, module: Module, name: str, threads: int, memory: Memory) -> None:
        self.entry: Entry = module.entries[name]
        if threads > self.entry.threads or threads % 32:
            raise PtxError(f"{name} does not take {threads} threads")
        self.module, self.memory, self.threads = module, memory, threads
        self.everybody = np.arange(threads)
        self.parameters = np.zeros(max(self.entry.parameter_bytes, 1), np.uint8)
        self.values = Registers(self.entry.registers, tuple(module.shared), threads)
        self.registers, self.source, self.target = self.values.rows, self.values.source, self.values.target
        self.special = self.values.special
        code = self.entry.instructions
        self.mentioned = Counter(re.findall(r"%[\w@]+", " ".join(text for each in code for text in each.operands)))
        self.executed: set[int] = set()  # places of segments that ran
        self.segments: dict[int, _Segment] = {}
        self._compile()

    # What an instruction does.

    def _compile(self) -> None:
        code, labels = self.entry.instructions, self.entry.labels
        leaders = {0, len(code), *labels.values()}
        for at, instruction in enumerate(code):
            if instruction.opcode in ("bra", "bra.uni", "ret"):
                leaders.add(at + 1)
            elif _MEET.fullmatch(instruction.opcode):
                leaders |= {at, at + 1}
        order = sorted(leaders)
        for first, end in pairwise(order):
            segment = self.segments[first] = _Segment(end)
            for instruction in code[first:end]:
                try:
                    self._add(segment, instruction)
                except (PtxError, LookupError) as error:
                    raise PtxError(f"{self._place(instruction)}: {error}") from error

    def _place(self, instruction: Instruction) -> str:
        return f"{self.entry.name}: line {instruction.line}: {instruction.text}"

    def _add(self, segment: _Segment, instruction: Instruction) -> None:
        segment.last = instruction
        opcode, names = instruction.opcode, instruction.operands
        condition = self._condition(instruction)
        if opcode in ("bra", "bra.uni", "ret"):
            segment.goal = self.entry.labels[names[0]] if opcode != "ret" else len(self.entry.instructions)
            segment.condition = condition
            return
        if _MEET.fullmatch(opcode):
            if condition is not None:
                raise PtxError("threads meet under a predicate")
            segment.meet = self._meet(instruction)
            return
        run = self._operation(instruction)
        if condition is None:
            segment.steps.append((instruction, run))
        else:
            holds = condition
            segment.steps.append((instruction, lambda mask: run(holds() & mask)))

    def _condition(self, instruction: Instruction) -> Callable[[], Array] | None:
        if instruction.predicate is None:
            return None
        predicate = self.source(instruction.predicate, "pred")
        return (lambda: ~predicate) if instruction.negated else (lambda: predicate)

    def _operation(self, instruction: Instruction) -> Run:
        opcode, names = instruction.opcode, instruction.operands
        if match := _MEMORY.fullmatch(opcode):
            if _space(opcode) == "param":
                return self._load_parameter(match, names)
            return (self._load if opcode[:2] == "ld" else self._store)(match, instruction)
        if match := _ATOMIC.fullmatch(opcode):
            return self._atomic(match, names if match[1] == "atom" else ["_", *names])
        if match := re.fullmatch(r"cvta(\.to)?\.(global|shared)\.u64", opcode):
            source, target = self.source(names[1], "u64"), self.target(names[0], "u64")
            window = self.memory.address_of_shared() if match[2] == "shared" else 0
            by = np.uint64((-window if match[1] else window) % (1 << 64))
            return lambda mask: np.copyto(target, source + by, where=mask)
        return make(opcode, Operands(self.values, names))

    def _address(self, operand: str) -> Callable[[Array], Array]:
        match = _ADDRESS.fullmatch(operand)
        if not match:
            raise PtxError(f"{operand} is no address")
        base, offset = match[1], int(match[2] or 0)
        register = self.registers.get(base)
        if register is None:
            return lambda threads: np.full(threads.size, SHARED_FIRST + self._shared(base) + offset, np.int64)
        if register.itemsize not in (4, 8):
            raise PtxError(f"{base} holds no address")
        known = register
        return lambda threads: known[threads].astype(np.int64) + offset

    def _shared(self, name: str) -> int:
        if name not in self.module.shared:
            raise PtxError(f"{name} is no memory")
        return 0

    def _load_parameter(self, match: re.Match[str], names: list[str]) -> Run:
        place = _ADDRESS.fullmatch(names[1])
        if match[1] or not place:
            raise PtxError("no parameter")
        first, size = self.entry.parameters[place[1]]
        width, offset = WIDTHS[match[2]], int(place[2] or 0)
        if not 0 <= offset <= size - width or offset % width:
            raise PtxError("outside the parameter, or not aligned")
        value = self.parameters[first + offset : first + offset + width].view(DTYPES[match[2]])
        target = self.target(names[0], match[2])
        return lambda mask: np.copyto(target, value, where=mask)

    def _vector(self, match: re.Match[str], operand: str) -> list[str]:
        names = parts_of(operand)
        if len(names) != int(match[1] or 1):
            raise PtxError("a vector of another length")
        return names

    def _load(self, match: re.Match[str], instruction: Instruction) -> Run:
        names, space, kind = instruction.operands, _space(instruction.opcode), match[2]
        targets = [self.target(name, kind) for name in self._vector(match, names[0])]
        address, width, memory = self._address(names[1]), WIDTHS[kind], self.memory
        size = width * len(targets)
        words = memory.words[width]
        used = instruction.used_bytes
        cells = np.array([cell for cell in range(-(-size // CELL)) if used >> CELL * cell & (1 << CELL) - 1])

        def run(mask: Mask) -> None:
            threads = self._of(mask)
            if threads.size == 0:
                return
            offsets = memory.locate(space, address(threads), size, READABLE)
            memory.note(READ, offsets, cells, threads)
            for k, target in enumerate(targets):
                target[threads] = words[offsets // width + k].view(DTYPES[kind])

        return run

    def _store(self, match: re.Match[str], instruction: Instruction) -> Run:
        names, space, kind = instruction.operands, _space(instruction.opcode), match[2]
        sources = [self.source(name, kind) for name in self._vector(match, names[1])]
        address, width, memory = self._address(names[0]), WIDTHS[kind], self.memory
        size = width * len(sources)
        cells = np.arange(-(-size // CELL))

        def run(mask: Mask) -> None:
            threads = self._of(mask)
            if threads.size == 0:
                return
            offsets = memory.locate(space, address(threads), size, WRITABLE)
            memory.note(WRITE, offsets, cells, threads)
            for k, source in enumerate(sources):
                memory.words[width][offsets // width + k] = source[threads].view(f"u{width}")

        return run

    def _of(self, mask: Mask) -> Array:
        return self.everybody if mask is True else np.flatnonzero(mask)

    def _atomic(self, match: re.Match[str], names: list[str]) -> Run:
        space, name, kind = match[2] or "generic", match[3], match[4]
        target, address = self.target(names[0], kind), self._address(names[1])
        given = [self.source(operand, kind) for operand in names[2:]]
        if len(given) != (2 if name == "cas" else 1) or (name in ("min", "max", "add") and kind[0] == "b"):
            raise PtxError("another number or type of operands")
        width, memory, read = WIDTHS[kind], self.memory, self.mentioned[names[0]] > 1
        words, cells = memory.words[width].view(DTYPES[kind]), np.arange(WIDTHS[kind] // CELL)

        def run(mask: Mask) -> None:
            threads = self._of(mask)
            if threads.size == 0:
                return
            offsets = memory.locate(space, address(threads), width, READABLE | WRITABLE)
            memory.note(ATOMIC, offsets, cells, threads)
            if not read and name == "add":
                np.add.at(words, offsets // width, given[0][threads])
                return
            # One thread after another: of those at one place each finds what the one before left.
            places = (offsets // width).tolist()
            now: dict[int, int] = dict(zip(places, words[places].tolist(), strict=True))
            found = []
            for place, *values in zip(places, *(source[threads].tolist() for source in given), strict=True):
                found.append(now[place])
                new = _ATOMS[name](now[place], values) % (1 << 8 * width)
                now[place] = new - (1 << 8 * width) if kind[0] == "s" and new >> 8 * width - 1 else new
            words[list(now)] = list(now.values())
            target[threads] = found

        return run

    # Where threads meet.

    def _meet(self, instruction: Instruction) -> Callable[[Array], Array]:
        """What runs when threads are at a place; returns those that may go on."""
        opcode, names = instruction.opcode, instruction.operands
        if opcode == "bar.sync":
            if names != ["0"]:
                raise PtxError("another barrier than that of all threads")
            return self._meet_block
        members = self.source(names[-1], "u32")
        work: Callable[[Array], None]
        if opcode == "bar.warp.sync":
            work = self._end_warp_epoch
        elif opcode.startswith("shfl"):
            work = self._shuffle(opcode.split(".")[2], names, members)
        else:
            work = self._vote(opcode.removeprefix("vote.sync."), names)
        shifts, everybody = self.special["%laneid"], np.uint32(0xFFFFFFFF)

        def meet(here: Array) -> Array:
            if here.all() and (members == everybody).all():
                work(here)
                return here
            ready = np.zeros(self.threads, np.bool_)
            for warp in np.unique(np.flatnonzero(here) // 32).tolist():
                lanes = slice(32 * warp, 32 * warp + 32)
                named = members[lanes][here[lanes]]
                if (named != named[0]).any() or (~(named[0] >> shifts[lanes]) & 1)[here[lanes]].any():
                    raise PtxError(f"threads of warp {warp} name other threads, or not themselves")
                wanted = (named[0] >> shifts[lanes] & 1).astype(np.bool_)
                ready[lanes] = here[lanes] & bool((wanted == here[lanes]).all())
            if ready.any():
                work(ready)
            return ready

        return meet

    def _meet_block(self, here: Array) -> Array:
        if here.all():
            self.memory.races.block_epoch += 1
            return here
        return np.zeros_like(here)

    def _end_warp_epoch(self, ready: Array) -> None:
        warps = np.unique(np.flatnonzero(ready) // 32)
        if not ready.reshape(-1, 32)[warps].all():
            raise PtxError("a barrier of a part of a warp")
        self.memory.races.warp_epoch[warps] += 1

    def _shuffle(self, mode: str, names: list[str], members: Array) -> Callable[[Array], None]:
        result, _, known = names[0].partition("|")
        target, source = self.target(result, "b32"), self.source(names[1], "b32")
        valid = self.target(known, "pred") if known else np.zeros(self.threads, np.bool_)
        by, control = self.source(names[2], "u32"), self.source(names[3], "u32")
        lane = self.special["%laneid"].astype(np.int64)

        def work(ready: Array) -> None:
            b, segment, clamp = (x.astype(np.int64) for x in (by & 31, control >> np.uint32(8) & 31, control & 31))
            least, most = lane & segment, (lane & segment) | (clamp & ~segment)
            other = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": least | (b & ~segment)}[mode]
            inside = other >= most if mode == "up" else other <= most
            other = np.where(inside, other, lane)
            if ((members.astype(np.int64) >> other & 1) == 0)[ready].any():
                raise PtxError("a thread shuffles from one that does not take part")
            np.copyto(target, source[self.everybody - lane + other], where=ready)
            np.copyto(valid, inside, where=ready)

        return work

    def _vote(self, mode: str, names: list[str]) -> Callable[[Array], None]:
        kinds = {"any.pred": "pred", "all.pred": "pred", "ballot.b32": "b32"}
        target, source = self.target(names[0], kinds[mode]), self.source(names[1], "pred")

        def work(ready: Array) -> None:
            lanes, here = (source & ready).reshape(-1, 32), ready.reshape(-1, 32)
            found: Array
            if mode == "any.pred":
                found = np.asarray(lanes.any(axis=1))
            elif mode == "all.pred":
                found = np.asarray((lanes == here).all(axis=1))
            else:
                found = (lanes.astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum(axis=1)
            np.copyto(target, np.repeat(found, 32), where=ready, casting="unsafe")

        return work

    # A launch.

    def launch(self, blocks: int, shared_bytes: int, parameters: bytes) -> None:
        """All thread blocks, one after another."""
        if len(parameters) != self.entry.parameter_bytes:
            raise PtxError(f"{self.entry.name} takes {self.entry.parameter_bytes} bytes of parameters")
        self.parameters[: len(parameters)] = np.frombuffer(parameters, np.uint8)
        self.memory.launch(shared_bytes)
        self.special["%nctaid.x"][:] = blocks
        with np.errstate(all="ignore"):
            for block in range(blocks):
                self.special["%ctaid.x"][:] = block
                for width, pool in self.values.pools.items():
                    pool.fill(0 if width == 1 else int.from_bytes(bytes([POISON] * width), "little"))
                self.memory.enter_block(block)
                self._run_block(block)

    def _run_block(self, block: int) -> None:
        end = len(self.entry.instructions)
        places, waiting = np.zeros(self.threads, np.int64), np.zeros(self.threads, np.bool_)
        while (runnable := ~waiting & (places < end)).any():
            place = int(places[runnable].min())
            here = places == place
            segment = self.segments[place]
            self.executed.add(place)
            step = segment.last
            try:
                if segment.meet is not None:
                    ready = segment.meet(here)
                    waiting[here] = ~ready[here]
                    places[ready] = segment.end
                    continue
                mask: Mask = True if here.all() else here
                for instruction, run in segment.steps:
                    step = instruction
                    run(mask)
            except PtxError as error:
                where = self._place(step) if step else self.entry.name
                raise PtxError(f"{where}: block {block}: {error}") from error
            places[here] = segment.end
            if segment.goal >= 0:
                places[here if segment.condition is None else here & segment.condition()] = segment.goal
        if waiting.any():
            stuck = self.entry.instructions[int(places[waiting].min())]
            raise PtxError(f"{self._place(stuck)}: block {block}: {waiting.sum()} threads wait for others for ever")
