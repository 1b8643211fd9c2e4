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

Every rule also has these settings:

| setting | default | what it does |
| --- | --- | --- |
| `severity` | that of the rule | `info`, `warning`, `error` or `fatal` |
| `warmup` | 0 | so many observations are not judged |
| `patience` | 1 | so many observations in a row must be as the condition says |
| `cooldown` | 100 | so many steps lie between two findings about the same tensor |
| `include`, `exclude` | | expressions searched for in names of tensors |
| `module_types` | | names of classes; only tensors of such modules |

A rule of one's own is a class with a docstring, what it needs, its thresholds, and what it judges:

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
