"""`python -m tensometer.cuda`: what there is for tensors on CUDA devices; whether it is right, and how fast."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from tensometer import _core
from tensometer.cuda import Availability, available, version_words

EXIT_INTERRUPTED = 130


def _report(found: Availability) -> list[str]:
    size, _, toolkit = _core.cuda_image()
    compiled = f", by CUDA {version_words(toolkit)}" if toolkit else ""
    kernels = (
        f"{' '.join(found.architectures)} ({size} bytes{compiled})"
        if size
        else "none: this build was made without nvcc"
    )
    lines = [f"tensometer {_core.__version__}", f"kernels: {kernels}"]
    with suppress(RuntimeError):  # no driver, which is the reason that is told below
        lines.append(f"driver: CUDA {version_words(_core.cuda_driver_version())}")
    for device in found.devices:
        major, minor = device.capability
        usable = "" if device in found.usable else ", too old"
        lines.append(
            f"device {device.index}: {device.name}, compute capability {major}.{minor}, "
            f"{device.multiprocessors} multiprocessors{usable}"
        )
    lines.append("tensors on CUDA devices: " + ("reduced there" if found else f"not available: {found.reason}"))
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if tensors on CUDA devices are reduced here, and rightly, else 1. Ctrl-C ends it with 130."""
    options = _options(arguments)
    try:
        found = available()
        if not (options.selftest or options.bench):
            print(*_report(found), sep="\n")
            return 0 if found else 1
        option = "--selftest" if options.selftest else "--bench"
        if not found:
            return _fail(f"{option}: tensors on CUDA devices are not available: {found.reason}", 1)
        from tensometer.cuda import devices

        try:
            device = devices.torch_device()
        except devices.NoTorchError as error:
            return _fail(f"{option} {error}", 1)
        return _selftest(device, options.seed) if options.selftest else _bench(device, options.seed, options.json)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)


def _selftest(device: object, seed: int) -> int:
    from tensometer.cuda import devices, selftest

    passed, line = selftest.run(devices.TorchDevice(device), seed)
    print(line)
    return 0 if passed else 1


def _bench(device: object, seed: int, json: Path | None) -> int:
    from tensometer.cuda import bench

    if json is not None and not json.parent.is_dir():  # told before minutes have passed
        return _fail(f"--json {json}: there is no folder {json.parent}", 2)
    try:
        measured = bench.run(device, seed)
    except bench.WrongAnswerError as error:
        return _fail(f"--bench: wrong answer: {error}", 1)
    except RuntimeError as error:  # no memory, or a device that fails
        return _fail(f"--bench: {error}", 1)
    print(bench.markdown(measured))
    if json is not None:
        json.write_text(bench.as_json(measured), encoding="utf-8")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tensometer.cuda", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--selftest", action="store_true", help="compare with the CPU, bit for bit, and print one line that says so"
    )
    mode.add_argument("--bench", action="store_true", help="measure, and print tables in Markdown")
    parser.add_argument("--seed", type=_seed, metavar="N", help="of the random tensors (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --bench: every measured time, for programs")
    options = parser.parse_args(arguments)
    if options.json is not None and not options.bench:
        parser.error("--json goes with --bench")
    if options.seed is not None and not (options.bench or options.selftest):
        parser.error("--seed goes with --selftest or --bench")
    options.seed = options.seed or 0
    return options


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _fail(sentence: str, code: int) -> int:
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"tensometer.cuda: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
