"""`python -m tensometer.cuda`: what it says where something is missing, wrong arguments, and how it ends."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda import image_settings
from tensometer import cuda
from tensometer.cuda import __main__ as command
from tensometer.cuda import bench, devices, selftest
from tensometer.cuda.bench_timing import WrongAnswerError

FOUND = cuda.Availability("", (cuda.Device(0, "Fake GPU", (9, 0), 2),), ("sm_90",))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tensometer.cuda", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/bin:/bin", **image_settings(), **environment},
    )


def test_a_usable_device(fake_library: Path) -> None:
    done = run(TENSOMETER_LIBCUDA=str(fake_library), TENSOMETER_FAKE="devices=2")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"tensometer {cuda._core.__version__}"
    assert lines[1].startswith("kernels: ")
    assert lines[2:] == [
        "driver: CUDA 13.0",
        "device 0: Fake GPU, compute capability 9.0, 2 multiprocessors",
        "device 1: Fake GPU, compute capability 9.0, 2 multiprocessors",
        "tensors on CUDA devices: reduced there",
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("devices=0", "not available: cuda: cuInit failed: CUDA_ERROR_NO_DEVICE"),
        ("devices=1 major=7 minor=0", "the kernels need compute capability 7.5 or later; Fake GPU has 7.0"),
    ],
)
def test_no_device_that_will_do(fake_library: Path, settings: str, words: str) -> None:
    done = run(TENSOMETER_LIBCUDA=str(fake_library), TENSOMETER_FAKE=settings)
    assert (done.returncode, done.stderr) == (1, "")
    assert words in done.stdout.splitlines()[-1]
    assert ("multiprocessors, too old" in done.stdout) is ("major=7" in settings)


def test_a_driver_older_than_the_kernels(fake_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of an older major version of CUDA does not run them; of an older minor one it does."""
    monkeypatch.setattr(cuda._core, "cuda_devices", lambda: [("Fake GPU", 9, 0, 2)])
    monkeypatch.setattr(cuda._core, "cuda_image", lambda: (1000, "sm_90", 13020))
    monkeypatch.setattr(cuda._core, "cuda_driver_version", lambda: 13000)
    assert cuda.available()
    monkeypatch.setattr(cuda._core, "cuda_driver_version", lambda: 12080)
    assert cuda.available().reason == (
        "CUDA 13.2 compiled the kernels, and the driver is of CUDA 12.8: "
        "a driver of CUDA 13.0 or later is needed, or a build with an older nvcc"
    )


def test_a_driver_older_than_compressed_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda._core, "cuda_devices", lambda: [("Fake GPU", 9, 0, 2)])
    monkeypatch.setattr(cuda._core, "cuda_image", lambda: (1000, "sm_90", 12080))
    monkeypatch.setattr(cuda._core, "cuda_driver_version", lambda: 12020)
    assert "a driver of CUDA 12.4 or later is needed" in cuda.available().reason
    monkeypatch.setattr(cuda._core, "cuda_driver_version", lambda: 12040)
    assert cuda.available()


def test_the_version_of_a_driver_is_its_own(fake_library: Path) -> None:
    done = run(TENSOMETER_LIBCUDA=str(fake_library), TENSOMETER_FAKE="version=14010")
    assert (done.returncode, done.stderr) == (0, "")
    assert "driver: CUDA 14.1" in done.stdout.splitlines()


@pytest.mark.parametrize("mode", ["", "--selftest", "--bench"])
def test_no_driver(mode: str) -> None:
    done = run(*mode.split(), TENSOMETER_LIBCUDA="/nowhere/libcuda.so.1")
    assert done.returncode == 1
    told = done.stderr if mode else done.stdout
    assert "not available: cuda: no driver: /nowhere/libcuda.so.1: " in told.splitlines()[-1]
    assert (done.stdout == "") is bool(mode)


@pytest.mark.parametrize("mode", ["--selftest", "--bench"])
def test_torch_without_cuda(fake_library: Path, mode: str) -> None:
    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA")
    done = run(mode, TENSOMETER_LIBCUDA=str(fake_library))
    assert (done.returncode, done.stdout) == (1, "")
    told = f"tensometer.cuda: {mode} needs torch with CUDA: torch {torch.__version__} was built without it\n"
    assert done.stderr == told


def test_no_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "available", lambda: FOUND)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert command.main(["--selftest"]) == 1
    assert capsys.readouterr().err.startswith("tensometer.cuda: --selftest needs torch with CUDA: import of torch")


def test_no_device_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(devices.NoTorchError, match="finds no device it can use"):
        devices.torch_device()


def test_no_kernels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cuda._core, "cuda_image", lambda: (0, "", 0))
    assert command.main([]) == 1
    told = capsys.readouterr().out
    assert "kernels: none: this build was made without nvcc" in told
    assert "not available: this build has no CUDA kernels" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--selftest", "--bench"], "not allowed with argument --selftest"),
        (["--seed", "3"], "--seed goes with --selftest or --bench"),
        (["--selftest", "--seed", "-3"], "argument --seed"),
        (["--selftest", "--seed", "3.5"], "'3.5' is not a whole number of 0 or more"),
        (["--selftest", "--json", "x"], "--json goes with --bench"),
        (["model.pt"], "unrecognized arguments: model.pt"),
    ],
)
def test_wrong_arguments(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a device, as far as anybody asks."""
    monkeypatch.setattr(command, "available", lambda: FOUND)
    monkeypatch.setattr(devices, "torch_device", lambda: torch.device("cpu"))


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_the_selftest_has_the_last_word(
    device: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passed: bool, code: int
) -> None:
    def told(where: devices.Device, seed: int) -> tuple[bool, str]:
        return passed, f"{where.describe()}, seed {seed}"

    monkeypatch.setattr(selftest, "run", told)
    assert command.main(["--selftest", "--seed", "12"]) == code
    assert capsys.readouterr().out == f"cpu in place of a device, torch {torch.__version__}, seed 12\n"


def interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("mode", "module"), [("--selftest", selftest), ("--bench", bench)])
def test_an_interrupt_ends_it(
    device: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, module: Any
) -> None:
    monkeypatch.setattr(module, "run", interrupted)
    assert command.main([mode]) == 130
    assert capsys.readouterr() == ("", "tensometer.cuda: interrupted\n")


def test_the_selftest_is_interrupted_in_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    check: Callable[[selftest.Test], None] = interrupted
    with pytest.raises(KeyboardInterrupt):
        selftest.run(devices.TorchDevice("cpu"), 0, checks=[check])


def test_a_wrong_answer_ends_the_bench(
    device: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*_: Any) -> Any:
        raise WrongAnswerError("moments: float32: not as on the CPU")

    monkeypatch.setattr(bench, "run", wrong)
    assert command.main(["--bench"]) == 1
    assert capsys.readouterr().err == "tensometer.cuda: --bench: wrong answer: moments: float32: not as on the CPU\n"


def test_the_bench_writes_what_it_was_asked_for(
    device: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "run", lambda where, seed: (where.type, seed))
    monkeypatch.setattr(bench, "markdown", lambda measured: f"table of {measured}")
    monkeypatch.setattr(bench, "as_json", lambda measured: f"json of {measured}")
    file = tmp_path / "bench.json"
    assert command.main(["--bench", "--seed", "4", "--json", str(file)]) == 0
    assert capsys.readouterr().out == "table of ('cpu', 4)\n"
    assert file.read_text() == "json of ('cpu', 4)"


def test_a_file_that_cannot_be_is_told_before_the_bench(
    device: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "run", interrupted)
    file = tmp_path / "nowhere" / "bench.json"
    assert command.main(["--bench", "--json", str(file)]) == 2
    assert capsys.readouterr().err == f"tensometer.cuda: --json {file}: there is no folder {file.parent}\n"
