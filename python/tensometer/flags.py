"""What can be wrong with a tensor: one table of flags, each with a name, a severity and a condition.

The numbers come from the core; here they are only compared.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from tensometer._core import Summary
from tensometer.checkpoint import counted

# Serving in half precision is the usual choice, and float16 the narrower range of the two half types.
AUTO_SERVE_DTYPE = {"float64": "float16", "float32": "float16"}
SERVE_DTYPES = ("auto", "none", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")

# Tables indexed by token or position: rows of padding and of never-used tokens are zero or equal in healthy models.
_TABLE_NAME = re.compile(r"emb|wte|wpe|lm_head|shared\.weight", re.IGNORECASE)

Indices = npt.NDArray[np.intp]


class Severity(IntEnum):
    """How bad a flag is; comparable."""

    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def label(self) -> str:
        """The word used on the command line and in files."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Flag:
    """A finding about one tensor."""

    tensor: str
    name: str
    severity: Severity
    sentence: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table of flags; docs/scan.md shows the same rows."""

    name: str
    severity: Severity
    condition: str

    def flag(self, tensor: str, sentence: str) -> Flag:
        """A finding of this kind."""
        return Flag(tensor, self.name, self.severity, sentence)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows along dimension 0 of a matrix look like (`--units`)."""

    count: int
    dead: Indices
    constant: Indices
    identical: tuple[Indices, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a condition may look at."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    summary: Summary
    target: str | None
    is_matrix: bool
    rows: Rows | None = None
    rows_unread: str = ""
    tied_to: str = ""

    @property
    def is_mask(self) -> bool:
        """Only 0 and -Inf: an additive attention mask."""
        summary = self.summary
        return summary.neginf > 0 and summary.neginf + summary.zeros == summary.count

    @property
    def is_table(self) -> bool:
        """Whether the name says that rows are looked up by token or position."""
        return _TABLE_NAME.search(self.name) is not None

    @property
    def is_constant(self) -> bool:
        """All of two or more elements are equal and finite."""
        summary = self.summary
        return summary.count > 1 and summary.nonfinite == 0 and summary.min == summary.max


def target_of(dtype: str, serve_dtype: str) -> str | None:
    """The type that a tensor would be served in, where its range can differ from its own."""
    if not dtype.startswith(("float", "bfloat")):
        return None
    target = AUTO_SERVE_DTYPE.get(dtype) if serve_dtype == "auto" else serve_dtype
    return None if target in (None, "none", dtype) else target


def is_matrix(dtype: str, shape: tuple[int, ...]) -> bool:
    """A floating-point tensor with at least two dimensions larger than 1."""
    return len(shape) - shape.count(1) >= 2 and dtype.startswith(("float", "bfloat", "complex"))


# A tail this far beyond the bulk: the 0.05 % and 99.95 % quantiles of a normal distribution lie at 3.3 standard
# deviations, the largest of 10**9 samples at 6.2, a ratio of 1.9. Trained weights have heavier tails: the largest ratio
# in all-MiniLM-L6-v2 is 43. Ten elements beyond each quantile keep one outlier from being its own yardstick.
OUTLIER_RATIO = 100
OUTLIER_QUANTILE = 0.0005
OUTLIER_MIN_COUNT = 20_000

Check = Callable[[Facts], str | None]


def _nan(facts: Facts) -> str | None:
    nan, count = facts.summary.nan, facts.summary.count
    return f"{nan} of {counted(count, 'element')} {_are(nan)} NaN" if nan else None


def _infinite(facts: Facts) -> str | None:
    summary = facts.summary
    if not (summary.posinf or summary.neginf) or facts.is_mask:
        return None
    parts = [f"{n} {sign}Inf" for n, sign in ((summary.posinf, "+"), (summary.neginf, "-")) if n]
    return f"{' and '.join(parts)} among {counted(summary.count, 'element')}"


def _mask(facts: Facts) -> str | None:
    if not facts.is_mask:
        return None
    return f"{facts.summary.neginf} of {facts.summary.count} elements are -Inf and the others 0: an attention mask"


def _zero_matrix(facts: Facts) -> str | None:
    return _all_zero(facts) if facts.is_matrix else None


def _zero_vector(facts: Facts) -> str | None:
    return None if facts.is_matrix else _all_zero(facts)


def _all_zero(facts: Facts) -> str | None:
    count, zeros = facts.summary.count, facts.summary.zeros
    return f"all {count} elements are zero" if count > 1 and zeros == count else None


def _constant_matrix(facts: Facts) -> str | None:
    return _constant(facts) if facts.is_matrix else None


def _constant_vector(facts: Facts) -> str | None:
    return None if facts.is_matrix else _constant(facts)


def _constant(facts: Facts) -> str | None:
    if not facts.is_constant or facts.summary.zeros:
        return None
    return f"all {facts.summary.count} elements are {facts.summary.max:g}"


def _dead_rows(facts: Facts) -> str | None:
    return None if facts.rows is None or facts.is_table else _zero_rows(facts.rows)


def _padding_rows(facts: Facts) -> str | None:
    return None if facts.rows is None or not facts.is_table else _zero_rows(facts.rows)


def _zero_rows(rows: Rows) -> str | None:
    if not len(rows.dead) or len(rows.dead) == rows.count:
        return None
    return f"{_rows(rows.dead)} of {rows.count} {_are(len(rows.dead))} all zero"


def _constant_rows(facts: Facts) -> str | None:
    rows = facts.rows
    if rows is None or not len(rows.constant) or facts.is_constant:
        return None
    return f"{_rows(rows.constant)} of {rows.count} {_are(len(rows.constant))} constant"


def _identical_rows(facts: Facts) -> str | None:
    return None if facts.rows is None or facts.is_table else _equal_rows(facts.rows)


def _identical_table_rows(facts: Facts) -> str | None:
    return None if facts.rows is None or not facts.is_table else _equal_rows(facts.rows)


def _equal_rows(rows: Rows) -> str | None:
    if not rows.identical:
        return None
    groups = [_rows(group) for group in rows.identical[:3]]
    more = len(rows.identical) - len(groups)
    return f"{'; '.join(groups)}{'; and ' + counted(more, 'more group') if more else ''} of {rows.count} are identical"


def _rows_not_judged(facts: Facts) -> str | None:
    return f"rows were not judged: {facts.rows_unread}" if facts.rows_unread else None


def _overflow(facts: Facts) -> str | None:
    target = facts.target
    if target is None:
        return None
    overflow = facts.summary.overflow(target)
    if overflow == 0:
        return None
    # Where a type overflows inside a bin, that bin may hold both.
    how = _about(facts) or "at least "
    return f"{how}{overflow} of {counted(facts.summary.count, 'element')} would overflow in {target}"


def _underflow(facts: Facts) -> str | None:
    target = facts.target
    if target is None:
        return None
    underflow, summary = facts.summary.underflow(target), facts.summary
    nonzero = summary.count - summary.zeros - summary.nonfinite
    if underflow == 0 or underflow * 100 < nonzero:
        return None
    return f"{_about(facts)}{underflow} of {counted(nonzero, 'non-zero element')} would become zero in {target}"


def _about(facts: Facts) -> str:
    """Whether a count from the histogram is an estimate."""
    histogram = facts.summary.histogram
    return "about " if histogram is not None and histogram.sampled else ""


def _outliers(facts: Facts) -> str | None:
    summary = facts.summary
    if summary.count < OUTLIER_MIN_COUNT or not facts.dtype.startswith(("float", "bfloat")):
        return None
    bulk = max(abs(summary.quantile(OUTLIER_QUANTILE)), abs(summary.quantile(1 - OUTLIER_QUANTILE)))
    if not summary.linf > OUTLIER_RATIO * bulk > 0:
        return None
    return f"the largest magnitude {summary.linf:.4g} is far from the bulk, which ends at {bulk:.4g}"


def _empty(facts: Facts) -> str | None:
    return f"shape {list(facts.shape)} has no elements" if facts.summary.count == 0 else None


def _tied(facts: Facts) -> str | None:
    return f"shares its elements with {facts.tied_to}" if facts.tied_to else None


_MATRIX = "a floating-point tensor with at least two dimensions larger than 1"
_TABLE = "a table of tokens or positions (`emb`, `wte`, `wpe`, `lm_head` or `shared.weight` in its name)"

RULES: tuple[tuple[Kind, Check], ...] = (
    (Kind("nan", Severity.ERROR, "at least one element is NaN"), _nan),
    (Kind("inf", Severity.ERROR, "at least one element is +Inf or -Inf, and the tensor is no `mask`"), _infinite),
    (Kind("mask", Severity.NOTE, "every element is 0 or -Inf, and at least one is -Inf"), _mask),
    (Kind("all_zero", Severity.WARNING, f"every element of {_MATRIX} is zero"), _zero_matrix),
    (Kind("all_zero", Severity.NOTE, "every element (of two or more) of any other tensor is zero"), _zero_vector),
    (Kind("constant", Severity.WARNING, f"all elements of {_MATRIX} are one finite non-zero value"), _constant_matrix),
    (
        Kind("constant", Severity.NOTE, "all elements (two or more) of any other tensor are one finite non-zero value"),
        _constant_vector,
    ),
    (
        Kind("overflow", Severity.WARNING, "a finite element would become infinite or NaN in the serving dtype"),
        _overflow,
    ),
    (
        Kind(
            "underflow",
            Severity.WARNING,
            "at least 1 % of the non-zero finite elements would become zero in the serving dtype",
        ),
        _underflow,
    ),
    (
        Kind(
            "outliers",
            Severity.NOTE,
            f"of at least {OUTLIER_MIN_COUNT} elements, the largest finite magnitude exceeds {OUTLIER_RATIO} times the "
            "larger of the magnitudes of the 0.05 % and the 99.95 % quantile, which is not 0",
        ),
        _outliers,
    ),
    (Kind("empty", Severity.NOTE, "the tensor has no elements"), _empty),
    (Kind("tied", Severity.NOTE, "the tensor is the same view of the same bytes as an earlier one"), _tied),
    (Kind("dead_rows", Severity.WARNING, "`--units`: some, not all, rows are all zero"), _dead_rows),
    (Kind("padding_rows", Severity.NOTE, f"`--units`: some, not all, rows of {_TABLE} are all zero"), _padding_rows),
    (
        Kind(
            "constant_rows",
            Severity.WARNING,
            "`--units`: some rows of a tensor that is not constant hold one finite non-zero value",
        ),
        _constant_rows,
    ),
    (
        Kind("identical_rows", Severity.WARNING, "`--units`: rows that are not constant have the same bits"),
        _identical_rows,
    ),
    (
        Kind("identical_rows", Severity.NOTE, f"`--units`: the same in {_TABLE}"),
        _identical_table_rows,
    ),
    (
        Kind("rows_not_judged", Severity.NOTE, "`--units`: the rows cannot be read in bounded memory, or are too many"),
        _rows_not_judged,
    ),
)

SKIPPED = Kind("skipped", Severity.NOTE, "the tensor is listed, but its dtype or layout is not one tensometer reads")
ADDED = Kind("added", Severity.NOTE, "`--compare`: the baseline has no tensor of this name")
MISSING = Kind("missing", Severity.WARNING, "`--compare`: only the baseline has a tensor of this name")
RESHAPED = Kind("reshaped", Severity.WARNING, "`--compare`: the baseline's tensor has another shape")
RETYPED = Kind("retyped", Severity.NOTE, "`--compare`: the baseline's tensor has another dtype")
NOT_COMPARED = Kind(
    "not_compared", Severity.NOTE, "`--compare`: the tensor is complex, or was skipped here or in the baseline"
)

FLAGS: tuple[Kind, ...] = (*(kind for kind, _ in RULES), SKIPPED, ADDED, MISSING, RESHAPED, RETYPED, NOT_COMPARED)


def judge(facts: Facts) -> tuple[Flag, ...]:
    """The flags of one tensor, in the table's order."""
    return tuple([kind.flag(facts.name, sentence) for kind, check in RULES if (sentence := check(facts))])


def _rows(indices: Indices) -> str:
    shown = ", ".join(str(index) for index in indices[:5].tolist())
    more = len(indices) - 5
    return f"{'row' if len(indices) == 1 else 'rows'} {shown}{f' and {more} more' if more > 0 else ''}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
