"""Rows of many tensors as one table, for data frames and files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tensometer._core import summarize_many, unpack
from tensometer.extras import require
from tensometer.store.segment import Column, TensorKey

# A fingerprint is no statistic, and few runs have one.
STATISTICS = tuple(name for name in summarize_many([]).columns if name != "fingerprint")


@dataclass(frozen=True)
class Texts:
    """A column of texts: codes into values, as most repeat."""

    codes: npt.NDArray[np.int32]
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def to_numpy(self) -> npt.NDArray[np.str_]:
        """The texts themselves."""
        values = np.array(self.values, np.str_) if self.values else np.zeros(0, "U1")
        return np.asarray(values[self.codes])


class Table:
    """One row a summary, in the order of rank, step and writing.

    Columns are rank, step, time (seconds since 1970), phase, name, collection, dtype, shape (as 384x1536, empty for
    numbers) and statistics, uint64 for counts and float64 for others.
    """

    def __init__(self, columns: Mapping[str, Column | Texts]) -> None:
        self._columns = dict(columns)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def __len__(self) -> int:
        return len(self._columns["step"])

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        """A column as an array of shape (rows,). KeyError for a name that is none of the columns."""
        if column not in self._columns:
            raise KeyError(f"{column!r} is no column; there are {', '.join(self._columns)}")
        found = self._columns[column]
        return found.to_numpy() if isinstance(found, Texts) else found

    def __repr__(self) -> str:
        return f"<tensometer.Table of {len(self)} rows: {', '.join(self._columns)}>"

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """A dictionary from columns to arrays."""
        return {column: self[column] for column in self._columns}

    def to_arrow(self) -> Any:
        """A pyarrow.Table; texts are dictionaries. ImportError without pyarrow."""
        pyarrow = require("pyarrow", extra="parquet", purpose="to_arrow()")
        arrays = {
            column: pyarrow.DictionaryArray.from_arrays(found.codes, pyarrow.array(found.values, pyarrow.string()))
            if isinstance(found, Texts)
            else pyarrow.array(found)
            for column, found in self._columns.items()
        }
        return pyarrow.table(arrays)

    def to_pandas(self) -> Any:
        """A pandas.DataFrame; texts are categories. ImportError without pandas."""
        pandas = require("pandas", extra="pandas", purpose="to_pandas()")
        return pandas.DataFrame(
            {
                column: pandas.Categorical.from_codes(found.codes, list(found.values))
                if isinstance(found, Texts)
                else found
                for column, found in self._columns.items()
            }
        )

    def to_polars(self) -> Any:
        """A polars.DataFrame; texts are categories. ImportError without polars and pyarrow."""
        polars = require("polars", extra="polars", purpose="to_polars()")
        return polars.from_arrow(self.to_arrow())


@dataclass(frozen=True)
class Rows:
    """Some rows of one rank: columns as a segment has them, and what their numbers of tensors and phases mean."""

    rank: int
    columns: Mapping[str, Column]
    keys: Sequence[TensorKey]
    phases: Sequence[str]


def table_of(parts: Iterable[Rows], statistics: Sequence[str] | None = None) -> Table:
    """The rows of several ranks under each other. ValueError for a statistic that is unknown."""
    chosen = STATISTICS if statistics is None else tuple(statistics)
    tables = [_columns(part, chosen) for part in parts]
    if not tables:
        return table_of([Rows(0, _NO_ROWS, (), ())], chosen)
    return Table({column: _joined([table[column] for table in tables]) for column in tables[0]})


_NO_ROWS: dict[str, Column] = {
    "step": np.zeros(0, np.int64),
    "time": np.zeros(0),
    "phase": np.zeros(0, np.uint16),
    "tensor": np.zeros(0, np.uint32),
}


def _columns(part: Rows, statistics: tuple[str, ...]) -> dict[str, Column | Texts]:
    count = len(part.columns["step"])
    given = dict(part.columns)
    tensors = given["tensor"].astype(np.intp)
    keys = part.keys
    return {
        "rank": np.full(count, part.rank, np.int32),
        "step": given["step"],
        "time": given["time"],
        "phase": Texts(given["phase"].astype(np.int32), tuple(part.phases)),
        "name": _coded([key.name for key in keys], tensors),
        "collection": _coded([key.collection for key in keys], tensors),
        "dtype": _coded([key.dtype for key in keys], tensors),
        "shape": _coded(["x".join(map(str, key.shape)) for key in keys], tensors),
        **{statistic: unpack(given, statistic, count) for statistic in statistics},
    }


def _coded(texts: Sequence[str], rows: npt.NDArray[np.intp]) -> Texts:
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int32)
    return Texts(codes[rows], tuple(numbers))


def _joined(columns: Sequence[Column | Texts]) -> Column | Texts:
    if len(columns) == 1:
        return columns[0]
    texts = [column for column in columns if isinstance(column, Texts)]
    if not texts:
        return np.concatenate(columns)  # type: ignore[arg-type]
    values = tuple(dict.fromkeys(value for column in texts for value in column.values))
    numbers = {value: number for number, value in enumerate(values)}
    maps = [np.array([numbers[value] for value in column.values], np.int32) for column in texts]
    return Texts(np.concatenate([at[column.codes] for at, column in zip(maps, texts, strict=True)]), values)
