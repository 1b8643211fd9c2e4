"""Records the programs of the suite, and says what the rules make of the runs.

python -m benchmarks.detection --record --seeds 0 1
python -m benchmarks.detection --seeds 0 1 -v
"""

import argparse
import sys
import time
from collections.abc import Sequence

from tensometer.rules import chosen, default

from benchmarks.detection.record import RUNS, Recorded, kept, recorded, trials
from benchmarks.detection.score import Score, judged
from benchmarks.detection.suite import CASES


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1], help="0 and 1 are those that rules are tuned on"
    )
    parser.add_argument("--case", action="append", choices=[*CASES], metavar="NAME", help="only this one (repeatable)")
    parser.add_argument(
        "--rule", action="append", metavar="NAME", help="only this rule, and the faults that it may name"
    )
    parser.add_argument("--record", action="store_true", help="run the programs whose runs are not kept in build/")
    parser.add_argument("--fresh", action="store_true", help="run all programs anew")
    parser.add_argument("-v", "--verbose", action="store_true", help="every miss and every wrong alarm")
    return parser.parse_args(argv)


def record(names: Sequence[str], seeds: Sequence[int], *, fresh: bool) -> None:
    """Run what has to be run."""
    start = time.perf_counter()
    todo = trials([CASES[name] for name in names], seeds)
    for at, (case, seed, broken) in enumerate(todo, 1):
        began = time.perf_counter()
        run = recorded(case, seed, broken, fresh=fresh)
        print(f"{at}/{len(todo)} {run.label}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    print(f"{len(todo)} runs in {time.perf_counter() - start:.0f} s, kept in {RUNS}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 2 if there are no runs to judge."""
    options = arguments(argv)
    names = options.case or [*CASES]
    rules = chosen(options.rule) if options.rule else default()
    if options.rule:
        wanted = set(options.rule)
        names = [name for name in names if CASES[name].healthy or CASES[name].accepted & wanted]
    if options.record or options.fresh:
        record(names, options.seeds, fresh=options.fresh)
    runs: list[Recorded] = [
        run for one in trials([CASES[name] for name in names], options.seeds) if (run := kept(*one))
    ]
    if not runs:
        print("no runs are kept: record them by --record", file=sys.stderr)
        return 2
    start = time.perf_counter()
    score = Score([judged(run, rules) for run in runs])
    if options.verbose:
        print(*score.details(), "", sep="\n")
    print(*score.by_rule(), "", *score.totals(), sep="\n")
    failures = {failure for one in score.verdicts for failure in one.failures}
    print(*sorted(failures), sep="\n", file=sys.stderr, end="\n" if failures else "")
    print(f"\n{len(runs)} runs, {len(rules)} rules, {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
