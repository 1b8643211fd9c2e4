"""Writes docs/rules.md, and the table of rules in README.md, from the docstrings of the rules: `make docs`."""

import argparse
import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from tensometer.rules import Rule, known

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- rules: begin, written by make docs -->", "<!-- rules: end -->"
# The parts of a docstring after its first sentence; a label may say of what: "Condition, of a parameter:".
LABELS = ("Condition", "Defaults", "Needs", "Costs", "Healthy look-alikes", "Example")
_LABEL = re.compile(rf"(?:^|(?<=\. ))({'|'.join(LABELS)})((?:, [^:\n]*)?):", re.MULTILINE)
_COMMON = tuple(one.name for one in fields(Rule))

_INTRODUCTION = """\
# Rules

This page is written from the docstrings of the rules by `make docs`: change those.

```python
from tensometer import Monitor
from tensometer.rules import default

with Monitor("runs/exp1", rules=True, on_finding=print) as monitor:  # or rules=default(), a list, settings, a file
    ...
```

Beside a training, rules judge each step that is captured. `tensometer.replay.evaluate("runs/exp1")` and
[`tensometer watch`](watch.md) judge a run from disk, and find the same, but for what a flight recorder alone has seen.
Rules that compare ranks are asked there alone: a process that trains sees its own rank. What is done with findings:
[actions.md](actions.md).

Settings are those of a TOML file (`rules="rules.toml"`) or a dictionary: by the name of a rule `true`, `false` or its
settings; `only = [...]`, the names of all that are wanted; `files = ["my_rules.py"]`, files with rules of one's own.

```toml
LossSpike = false

[VanishingGradient]
patience = 5
exclude = "embedding"
```

Every rule also has these settings. Of tensors those are judged that all of them let in; rules of losses, and of the run
as a whole, ask nothing of names:

| setting | default | what it does |
| --- | --- | --- |
| `severity` | that of the rule | `info`, `warning`, `error` or `fatal` |
| `warmup` | 0 | so many observations are not judged |
| `patience` | 1 | so many observations in a row must be as the condition says |
| `cooldown` | 100 | so many steps lie between two findings about the same tensor |
| `include`, `exclude` | | expressions searched for in names of tensors |
| `module_types` | | names of classes; only tensors of such modules |
| `collections` | | roles of tensors, as names of collections: `weights`, `biases`, `gradients`, `activations`, ... |

Thresholds that mean nothing, unknown names and files that raise an error are a TypeError, ValueError or ImportError
that says where.

## How often steps are captured

A monitor with rules that is not told `every` or `dense` captures each of the first 500 steps and every tenth after
those. Patience and windows count captured steps: where every tenth is captured, what goes wrong is found up to ten
times as late, and a spike between two captured steps is not seen. The measured numbers are those of `every=1`; of the
programs that they are measured with, fewer than 8 of 10 faults were found at `every=10` from the start, and 20 steps
behind their beginning instead of 2.

Judging every step, and capturing what the default rules read, makes a step of a small network about 1.25 times as long
(one thread); larger batches, and networks with more computation a parameter, pay less. What costs are activations,
updates and weights, which may be captured less often than losses and gradients:

```python
slow = {name: {"every": 10} for name in ("weights", "biases", "updates", "activations")}
monitor = tensometer.Monitor("runs/exp1", every=1, rules=True, on_finding=print, collections=slow)
```

Two rules, WeightCollapse and WeightGrowth, compare each step with the one before it. They begin anew behind steps that
were not captured, and judge nothing as long as all of them lie apart, which is told.

## What is not judged

Rules whose groups a run does not have, or not in one step, say so by their names, and so do those that compare
consecutive steps where there are none, and those whose `include`, `exclude`, `module_types` and `collections` let
nothing in: in one finding of severity info (`kind` is `not_captured`, `rule` is `NotJudged` if it names several),
after ten captured steps or at the end, from the first rank. Rules of models are not named in runs of a booster, nor
are those that few runs have rows for.

## XGBoost

```python
import xgboost
from sklearn.datasets import load_breast_cancer
from tensometer.capture.xgboost import MonitorCallback

table = xgboost.DMatrix(*load_breast_cancer(return_X_y=True))
monitored = MonitorCallback("runs/trees", rules=True, on_finding=print, every=1)
xgboost.train({"objective": "binary:logistic", "max_depth": 3}, table, 30, callbacks=[monitored])
```

TreeTooDeep, LowFeatureImportance and FeatureImportanceOverweight judge trees; the rules of losses judge metrics
with "loss" in their name, as `eval_metric` logloss. `tensometer watch runs/trees --once` finds the same from disk.

## Rules of one's own

A class with a docstring, what it needs, its thresholds, and what it judges. More, and how other processes come to
know it: [own_rules.md](own_rules.md).

```python
from tensometer.rules import Condition, Rule, register


@register
class LargeWeights(Rule):
    \"\"\"A weight is larger than it should be.\"\"\"

    needs = ("weights",)
    largest: float = 10.0

    def check(self, step, state):
        rows = self.rows(step, "weights")
        yield Condition(rows, rows["linf"] > self.largest, "{tensor} has {value:.3g}", rows["linf"], self.largest)
```
"""


def first_line(rule: type[Rule]) -> str:
    """What is wrong, in one sentence."""
    return " ".join(_paragraphs(rule)[0].split())


def section(rule: type[Rule], label: str) -> str:
    """The part of the docstring that begins with that label, up to the next one; empty if there is none."""
    # Of what precedes the first label; then label, of what, text; label, ...
    _, *parts = _LABEL.split(inspect.getdoc(rule) or "")
    texts = dict(zip(parts[::3], parts[2::3], strict=True))
    return " ".join(texts.get(label, "").split())


def page() -> str:
    """docs/rules.md."""
    rules = _sorted()
    parts = [_INTRODUCTION, table(rules)]
    for rule in rules:
        first, *others = _paragraphs(rule)
        lines = [f"## {rule.__name__}", "", first, "", *_settings(rule)]
        for paragraph in others:
            lines += ["", _LABEL.sub(r"**\1\2.**", paragraph)]
        for title, texts in (("Likely causes", rule.causes), ("What to try", rule.remedies)):
            if texts:
                lines += ["", f"**{title}.** {_capital('; '.join(texts))}."]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def table(rules: Sequence[type[Rule]]) -> str:
    """Of all rules: what they find, need and cost."""
    rows = ["| rule | finds | needs | costs |", "| --- | --- | --- | --- |"]
    for rule in rules:
        name = f"[{rule.__name__}](docs/rules.md#{rule.__name__.lower()})"
        cells = [name, first_line(rule), *(_capital(_sentence(section(rule, label))) for label in ("Needs", "Costs"))]
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def readme(text: str) -> str:
    """README.md with the table between its markers. ValueError if they are not there, once and in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md: {BEGIN!r} and {END!r} are not in it")
    return f"{before}{BEGIN}\n{table(_sorted())}{END}{after}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    """The first one."""
    return text.partition(". ")[0].removesuffix(".")


def _sorted() -> list[type[Rule]]:
    ours = [rule for rule in known().values() if rule.__module__.startswith("tensometer.rules.")]
    return sorted(ours, key=lambda rule: rule.__name__)


def _paragraphs(rule: type[Rule]) -> list[str]:
    return (inspect.getdoc(rule) or "").split("\n\n")


def _settings(rule: type[Rule]) -> list[str]:
    own = [one for one in fields(rule) if one.name not in _COMMON or one.default != getattr(Rule, one.name)]
    words = [f"`{one.name}` {getattr(one.default, 'label', one.default)!s}" for one in own if one.default != ""]
    default = "" if rule.by_default else "Not one of the default set. "
    return [f"{default}{'Settings: ' + ', '.join(words) + '.' if words else ''}".strip()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both files; with --check, only say which are not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file is not up to date")
    check = parser.parse_args(arguments).check
    stale = []
    for path, text in (
        (ROOT / "docs" / "rules.md", page().replace("](docs/rules.md#", "](#")),
        (ROOT / "README.md", readme((ROOT / "README.md").read_text(encoding="utf-8"))),
    ):
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.stderr.write(f"{', '.join(stale)}: not up to date; make docs\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
