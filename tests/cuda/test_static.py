"""What the kernels take on every architecture: registers, no memory of a thread's own, instructions an element."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from nvcc import find
from sass import ROOT, Image, Loop, loops, read_images

NVCC = find()
pytestmark = pytest.mark.skipif(NVCC is None, reason="there is no nvcc; make cuda-test installs one")

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
REGISTERS = {
    "tensometer_reduce": 64,
    "tensometer_finish": 64,
    "tensometer_compare": 64,
    "tensometer_finish_pairs": 64,
    "tensometer_histogram": 64,
}
IMAGES = ROOT / "build" / "python" / "kernels.fatbin"  # as they are embedded in the package
IMAGES_BYTES = 1_500_000
# Instructions an element at most, where no zero is in doubt. Wanted were 8 of 16-bit types, 13 with a histogram, 9 of
# float32, 4 of bytes. A pivot takes one more, to subtract it.
PER_ELEMENT = {
    "bfloat16": 7.5,
    "bfloat16 with a histogram": 10.5,
    "bfloat16 with a pivot": 8.0,
    "bfloat16 with a pivot and a histogram": 12.5,
    "float16": 7.5,
    "float16 with a histogram": 10.5,
    "float16 with a pivot": 8.0,
    "float16 with a pivot and a histogram": 12.5,
    "float32": 8.0,
    "float32 with a histogram": 11.0,
    "float32 with a pivot": 9.0,
    "float32 with a pivot and a histogram": 13.5,
    "bytes": 4.0,
}
# sm_75 has no instruction for extremes of two halves at a time: with a pivot its 16-bit types miss their goal.
PER_ELEMENT_75 = PER_ELEMENT | {
    "bfloat16": 8.0,
    "bfloat16 with a pivot": 9.0,
    "bfloat16 with a pivot and a histogram": 13.0,
    "float16": 8.0,
    "float16 with a pivot": 9.0,
    "float16 with a pivot and a histogram": 13.0,
}
# The same where elements are looked at once more, because one may be zero.
IN_DOUBT = {"bfloat16 with a pivot": 9.5, "float16 with a pivot": 9.5}
IN_DOUBT_75 = {
    "bfloat16": 10.5,
    "bfloat16 with a histogram": 12.5,
    "bfloat16 with a pivot": 11.5,
    "float16": 10.5,
    "float16 with a histogram": 12.5,
    "float16 with a pivot": 11.5,
    "float32": 11.5,
    "float32 with a histogram": 13.5,
    "float32 with a pivot": 12.5,
}


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's, or the same if nvcc came after the package."""
    if IMAGES.exists():
        return IMAGES
    goals = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in ARCHITECTURES]
    target = tmp_path_factory.mktemp("container") / IMAGES.name
    return compiled(target, "-fatbin", "--threads=0", "--compress-mode=size", *goals)


@pytest.fixture(scope="module")
def images(container: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Image]:
    return read_images(container, tmp_path_factory.mktemp("images"))


def compiled(target: Path, *options: str, sources: Path = ROOT / "csrc") -> Path:
    """The kernels compiled as they are shipped."""
    flags = ["-std=c++20", "--fmad=false", "--expt-relaxed-constexpr", "-O3", *options, f"-I{sources}"]
    subprocess.run([str(NVCC), *flags, "-o", target, sources / "cuda" / "kernels.cu"], check=True)
    return target


def name_of(loop: Loop) -> str | None:
    """What a loop over 16-byte loads sums or counts; None if it is neither the fast way's nor that of bytes."""
    operations, loads = loop.operations, loop.wide_loads
    squares, counts = operations["FMUL"], operations["ATOMS"]
    if not loads or "DADD" in operations:
        return None
    half = "float16" if operations["HADD2"] else "bfloat16"
    if squares:
        dtype = {4: "float32", 8: half}.get(squares // loads, "?")
        pivot = {3: "", 4: " with a pivot"}.get(operations["FADD"] // squares, "?")
        return dtype + pivot + (" with a histogram" if counts else "")
    return {4: "float32 counted", 8: f"{half} counted", 16: "bytes"}.get(counts // loads)


def per_element(image: Image) -> dict[str, float]:
    """Instructions an element of each loop; where a loop is there for more elements at a time too, of the worse."""
    found: dict[str, float] = {}
    for loop in image.loops:
        if (name := name_of(loop)) is not None:
            elements = loop.operations["FMUL"] or loop.operations["ATOMS"]  # each is squared once, or counted
            found[name] = max(found.get(name, 0), len(loop.opcodes) / elements)
    for dtype in ("bfloat16", "float16", "float32"):  # with a pivot, counting has a loop of its own
        found[f"{dtype} with a pivot and a histogram"] = found[f"{dtype} with a pivot"] + found.pop(f"{dtype} counted")
    return found


def in_doubt(image: Image) -> dict[str, float]:
    """The same of the longest way through a loop, if it has more than one."""
    return {
        name: loop.longest / loop.operations["FMUL"]
        for loop in image.loops
        if loop.beside and loop.operations["FMUL"] and (name := name_of(loop)) is not None
    }


def faults(image: Image) -> list[str]:
    """What is not as it should be."""
    said = []
    if image.resources.keys() != REGISTERS.keys():
        said.append(f"kernels {sorted(image.resources)}")
    for name, kernel in image.resources.items():
        if kernel.registers > REGISTERS[name]:
            said.append(f"{name}: {kernel.registers} registers")
        if kernel.stack:
            said.append(f"{name}: {kernel.stack} bytes of stack")
    if re.search(r"\b(LDL|STL)\b", image.text):
        said.append("local memory")
    if any(loop.narrow_loads for loop in image.loops if name_of(loop) is not None):
        said.append("a load of less than 16 bytes in a main loop")
    wanted = PER_ELEMENT_75 if image.architecture == 75 else PER_ELEMENT
    try:
        found = per_element(image)
    except KeyError as error:
        return [*said, f"no loop of {error}"]
    said += [f"no loop of {name}" for name in wanted if name not in found]
    doubted, most = in_doubt(image), IN_DOUBT_75 if image.architecture == 75 else IN_DOUBT
    said += [
        f"{name}: {n:.2f} instructions an element, in doubt" for name, n in doubted.items() if n > most.get(name, 0)
    ]
    said += [f"{name}: {n:.2f} instructions an element" for name, n in found.items() if n > wanted.get(name, 0)]
    return said


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_are_as_lean_as_they_were_made(architecture: int, images: dict[int, Image]) -> None:
    assert faults(images[architecture]) == []


def test_images_are_small(container: Path, images: dict[int, Image]) -> None:
    assert sorted(images) == list(ARCHITECTURES)
    assert container.stat().st_size < IMAGES_BYTES


# Planted faults.


def test_an_array_in_memory_and_narrow_loads_are_found(tmp_path: Path) -> None:
    sources = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", sources)
    plant(sources / "cuda" / "elements.hpp", "std::bit_cast<Words>(__ldg(reinterpret_cast<const uint4*>(p)))", NARROW)
    plant(sources / "cuda" / "careful.hpp", "value[term] = static_cast<double>(narrow);", "value[finite & 3] = narrow;")
    container = compiled(tmp_path / "planted.cubin", "-arch=sm_80", "-cubin", sources=sources)
    (tmp_path / "images").mkdir()
    said = faults(read_images(container, tmp_path / "images")[80])
    assert "local memory" in said
    assert any(re.fullmatch(r"tensometer_reduce: \d+ bytes of stack", each) for each in said), said
    assert any(each.startswith("no loop of") for each in said), said


NARROW = "Words{{__ldg((const unsigned*)p), __ldg((const unsigned*)p + 1), __ldg((const unsigned*)p + 2), 0}}"


def plant(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


TWO_WAYS = """
.text.kernel:
.L_x_1:
        /*0000*/                   LDG.E.128.CONSTANT R4, [R2.64] ;
        /*0010*/                   LDG.E.128.CONSTANT R8, [R2.64+0x40] ;
        /*0020*/                   FMUL R4, R4, R4 ;
        /*0030*/                   LOP3.LUT P0, RZ, R4, 0x7fff, RZ, 0xc0, !PT ;
        /*0040*/               @P0 BRA `(.L_x_3) ;
.L_x_2:
        /*0050*/                   LDG.E.128.CONSTANT R4, [R2.64] ;
        /*0060*/                   HMNMX2 R8, R8, |R4|, PT ;
        /*0070*/               @P1 BRA `(.L_x_2) ;
        /*0080*/                   MOV R1, R2 ;
.L_x_3:
        /*0090*/               @P2 BRA `(.L_x_1) ;
        /*00a0*/                   EXIT ;
"""


def test_both_ways_through_a_loop_are_counted() -> None:
    inner, main = sorted(loops(TWO_WAYS, "kernel"), key=lambda loop: len(loop.opcodes))
    assert inner.opcodes == ("LDG.E.128.CONSTANT", "HMNMX2", "BRA")
    assert [opcode.split(".")[0] for opcode in main.opcodes] == ["LDG", "LDG", "FMUL", "LOP3", "BRA", "BRA"]
    assert (main.beside, main.inner) == ((*inner.opcodes, "MOV"), (inner,))
    assert (main.wide_loads, main.narrow_loads, main.longest) == (2, 0, 6 + 4 + 3)
    narrow = loops(
        TWO_WAYS.replace("LDG.E.128.CONSTANT R4, [R2.64] ;\n        /*0060*/", "LDG.E R4, [R2] ;\n /*0060*/"), "kernel"
    )
    assert max(loop.narrow_loads for loop in narrow) == 1


TEXT_FAULTS = {
    "a load of less than 16 bytes in a main loop": (r"LDG\.E\.128", "LDG.E.64"),
    "instructions an element": (r"(?m)^(.*\bFMUL\b.*)$", r"\1\n        /*0000*/ MOV R1, R1 ;"),
    "local memory": (r"(?m)^(.*\bFMUL\b.*)$", r"\1\n        /*0000*/ STL [R1], R1 ;"),
    "no loop of": (r"\bFMUL\b", "FADD"),
}


@pytest.mark.parametrize("name", TEXT_FAULTS)
def test_faults_of_the_code_are_found(name: str, images: dict[int, Image]) -> None:
    pattern, new = TEXT_FAULTS[name]
    image = images[90]
    count = 1 if "load" in name or "local" in name else 0
    where = image.text.index(".text.tensometer_reduce:")
    if "load" in name:
        where = image.text.index("FMUL", where)
    text = image.text[:where] + re.sub(pattern, new, image.text[where:], count=count)
    assert any(name in said for said in faults(replace(image, text=text)))


def test_faults_of_the_resources_are_found(images: dict[int, Image]) -> None:
    image = images[90]
    kernel = image.resources["tensometer_reduce"]
    for name, changed in {
        "registers": replace(kernel, registers=65),
        "bytes of stack": replace(kernel, stack=8),
    }.items():
        said = faults(replace(image, resources=image.resources | {"tensometer_reduce": changed}))
        assert len(said) == 1
        assert name in said[0]
