"""What a few numbers say of all units of a tensor, where each by itself would be too many rows."""

import math

from tensometer._core import SummaryTable, summarize, unit_counts


def unit_facts(units: SummaryTable, *, alike: bool) -> dict[str, float]:
    """By their suffixes (see names): of the units, the fractions that stand out, and the spread within one.

    alike: also those that repeat another. Of no units there is nothing to say.
    """
    if not len(units):
        return {}
    names = ("inactive", "constant", "identical") if alike else ("inactive", "constant")
    counts = unit_counts(units)
    facts = {f"{name}_units": counts[name] / len(units) for name in names}
    # Units are of one size: the mean of their variances is the variance that is left when each has its own mean.
    facts["unit_spread"] = math.sqrt(summarize(units.column("var"), threads=1).mean)
    return facts
