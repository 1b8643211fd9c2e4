"""Runs commands of the shell at once, and shows in their order what each has said, under its name.

python at_once.py NAME COMMAND [NAME COMMAND]...: exits with 1 if one failed.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )


def main(arguments: list[str]) -> int:
    names, commands = arguments[::2], arguments[1::2]
    status = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, done in zip(names, pool.map(run, commands), strict=True):
            print(f"--- {name}\n{done.stdout}", end="", flush=True)
            if done.returncode != 0:
                print(f"{name}: exit {done.returncode}", file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
