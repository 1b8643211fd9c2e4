"""What the numbers were taken on: processor and how busy it was, compiler of the core, versions of what was timed."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tensometer._core

PACKAGES = ("numpy", "torch", "fast-histogram", "ddsketch", "tensometer")
# GCC and Clang both leave their name in the .comment section of what they compile.
COMPILER = re.compile(rb"(?:GCC: \([^)]*\) [\d.]+|clang version [\d.]+)")


def describe() -> dict[str, str]:
    return {
        "processor": processor(),
        "cpus": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "last-level cache": last_level_cache(),
        "system": f"{platform.system()} {platform.machine()}",
        "compiler": compiler(),
        "instruction sets": ", ".join(tensometer.isas()),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{package: package_version(package) for package in PACKAGES},
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else name


def last_level_cache() -> str:
    try:
        return Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
    except OSError:
        return "unknown"


def compiler() -> str:
    names = sorted({match.decode() for match in COMPILER.findall(Path(tensometer._core.__file__).read_bytes())})
    return ", ".join(names) or "unknown"


def package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
