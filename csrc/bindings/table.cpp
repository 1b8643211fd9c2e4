#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <unordered_set>

#include "bindings.hpp"
#include "dispatch.hpp"
#include "state.hpp"
#include "statistics.hpp"

namespace tensometer {
namespace {

template <class T, class Get>
py::array_t<T> column_of(const SummaryTable& table, Get get) {
  py::array_t<T> column(static_cast<py::ssize_t>(table.rows.size()));
  T* out = column.mutable_data();
  const FloatEnvironment environment;
  for (const TensorSummary& row : table.rows) *out++ = static_cast<T>(get(row));
  return column;
}

// Exact if every row is an integer tensor and one type holds them all; float64 otherwise.
py::array extremes(const SummaryTable& table, bool smallest) {
  const auto all = [&](auto test) {
    return !table.rows.empty() && std::all_of(table.rows.begin(), table.rows.end(), test);
  };
  const auto exact = [smallest](const TensorSummary& s) {
    const IntegerExtremes both = integer_extremes(s);
    return smallest ? both.min : both.max;
  };
  if (all([](const TensorSummary& s) { return has_integer_extremes(s) && s.dtype == DType::k_uint64; })) {
    return column_of<std::uint64_t>(table, exact);
  }
  if (all([](const TensorSummary& s) { return has_integer_extremes(s) && s.dtype != DType::k_uint64; })) {
    return column_of<std::int64_t>(table, exact);
  }
  return column_of<double>(
      table, [smallest](const TensorSummary& s) { return smallest ? s.summary.smallest() : s.summary.largest(); });
}

py::array fingerprints(const SummaryTable& table) {
  if (!table.fingerprints) throw py::value_error("statistic: fingerprint was not asked for; pass fingerprint=True");
  return column_of<std::uint64_t>(table, [](const TensorSummary& s) { return *s.fingerprint; });
}

py::array column_named(const SummaryTable& table, const std::string& name) {
#define TENSOMETER_COLUMN_whole(type, expression)            \
  return column_of<type>(table, [](const TensorSummary& v) { \
    const Summary& s = v.summary;                            \
    return expression;                                       \
  });
#define TENSOMETER_KIND_whole(expression) TENSOMETER_COLUMN_whole(std::uint64_t, expression)
#define TENSOMETER_KIND_real(expression) TENSOMETER_COLUMN_whole(double, expression)
#define TENSOMETER_KIND_extreme(expression) return extremes(table, name == "min");
#define TENSOMETER_ROW(statistic, kind, expression, doc) \
  if (name == #statistic) {                              \
    TENSOMETER_KIND_##kind(expression)                   \
  }
  TENSOMETER_STATISTICS(TENSOMETER_ROW)
#undef TENSOMETER_ROW
  if (name == "fingerprint") return fingerprints(table);
  throw py::value_error("statistic: '" + name + "' is unknown; see SummaryTable.columns");
}

std::vector<std::string> columns(const SummaryTable& table) {
  std::vector<std::string> names = {
#define TENSOMETER_ROW(name, kind, expression, doc) #name,
      TENSOMETER_STATISTICS(TENSOMETER_ROW)
#undef TENSOMETER_ROW
  };
  if (table.fingerprints) names.emplace_back("fingerprint");
  return names;
}

const TensorSummary& row_at(const SummaryTable& table, long index) {
  const auto size = static_cast<py::ssize_t>(table.rows.size());
  if (index < -size || index >= size) {
    throw py::index_error("row " + std::to_string(index) + " of a table of " + std::to_string(size));
  }
  return table.rows[static_cast<std::size_t>(index < 0 ? index + size : index)];
}

const TensorSummary& row_named(const SummaryTable& table, py::handle key) {
  if (table.names) {
    const std::string name = text_of(key, "key");
    const auto at = std::find(table.names->begin(), table.names->end(), name);
    if (at != table.names->end()) return table.rows[static_cast<std::size_t>(at - table.names->begin())];
  }
  throw py::key_error(table.names ? "no row is named " + shown(key) : "the rows of this table have no names");
}

// By number or by name.
const TensorSummary& row_of(const SummaryTable& table, py::handle key) {
  if (PyUnicode_Check(key.ptr())) return row_named(table, key);
  if (PyIndex_Check(key.ptr()) == 0 || PyBool_Check(key.ptr())) {
    throw py::type_error("key: " + shown(key) + " is neither the number nor the name of a row");
  }
  constexpr long limit = std::numeric_limits<long>::max();
  return row_at(table, whole_number(key, "key", -limit, limit));
}

SummaryTable part_of(const SummaryTable& table, py::handle first, py::handle last) {
  const auto size = static_cast<long>(table.rows.size());
  const long end = whole_number(last, "last", 0, size), begin = whole_number(first, "first", 0, end);
  SummaryTable part;
  part.fingerprints = table.fingerprints;
  part.rows.assign(table.rows.begin() + begin, table.rows.begin() + end);
  if (table.names) part.names.emplace(table.names->begin() + begin, table.names->begin() + end);
  return part;
}

py::tuple state_of(const SummaryTable& table) {
  py::list rows;
  for (const TensorSummary& row : table.rows) rows.append(py::bytes(save(row)));
  return py::make_tuple(rows, table.names, table.fingerprints);
}

SummaryTable restored_table(const py::tuple& state) {
  SummaryTable table;
  try {
    for (const py::handle row : state[0].cast<py::list>()) table.rows.push_back(restore_summary(row.cast<py::bytes>()));
    table.names = state[1].cast<std::optional<std::vector<std::string>>>();
    table.fingerprints = state[2].cast<bool>();
  } catch (const py::builtin_exception&) {  // a cast of the wrong type
    ByteReader::fail();
  } catch (const py::error_already_set&) {  // a tuple that is too short
    ByteReader::fail();
  }
  const bool fits = (!table.names || table.names->size() == table.rows.size()) &&
                    std::all_of(table.rows.begin(), table.rows.end(), [&](const TensorSummary& row) {
                      return row.fingerprint.has_value() == table.fingerprints;
                    });
  if (!fits) ByteReader::fail();
  return table;
}

TensorSummary total(const SummaryTable& table) {
  if (table.rows.empty()) throw py::value_error("total: the table is empty, so there is no dtype to report");
  TensorSummary sum = table.rows.front();
  for (const TensorSummary& row : table.rows) {
    if (row.dtype == sum.dtype) continue;
    throw py::value_error("total: the rows have different dtypes, " + name_of(sum.dtype) + " and " +
                          name_of(row.dtype));
  }
  for (std::size_t i = 1; i < table.rows.size(); ++i) sum = merge(sum, table.rows[i]);
  return sum;
}

std::uint64_t nonfinite(const SummaryTable& table) {
  std::uint64_t sum = 0;
  for (const TensorSummary& row : table.rows) sum += row.summary.nonfinite();
  return sum;
}

std::size_t nbytes(const SummaryTable& table) {
  std::size_t sum = table.rows.capacity() * sizeof(TensorSummary);
  for (const TensorSummary& row : table.rows) {
    sum += row.shape.capacity() * sizeof(row.shape[0]);
    if (!row.histogram) continue;
    sum += row.histogram->bins.capacity() * sizeof(row.histogram->bins[0]);
    sum += row.histogram->counts.capacity() * sizeof(row.histogram->counts[0]);
  }
  return sum;
}

// Rows of fingerprints that an earlier row has too; those of zeros alone are not counted.
std::size_t repeated(const SummaryTable& table) {
  std::unordered_set<std::uint64_t> seen;
  std::size_t count = 0;
  for (const TensorSummary& row : table.rows) {
    if (row.fingerprint && row.summary.zeros != row.summary.count) count += !seen.insert(*row.fingerprint).second;
  }
  return count;
}

py::dict unit_counts(py::handle units) {
  const auto& table = instance_of<SummaryTable>(units, "units", "SummaryTable");
  std::size_t inactive = 0;
  std::size_t constant = 0;
  for (const TensorSummary& row : table.rows) {
    const Summary& s = row.summary;
    const bool whole = s.count > 0 && s.nonfinite() == 0;
    inactive += whole && s.max <= 0;
    constant += whole && s.count > 1 && s.min == s.max;
  }
  py::dict counts;
  counts["inactive"] = inactive;
  counts["constant"] = constant;
  counts["identical"] = repeated(table);
  return counts;
}

// Of all rows of all tables, whatever their dtypes.
double norm(const py::iterable& tables) {
  const FloatEnvironment environment;
  Summary all;
  for (const py::handle table : tables) {
    for (const TensorSummary& row : instance_of<SummaryTable>(table, "tables", "SummaryTable").rows) {
      merge(all, row.summary);
    }
  }
  return all.l2();
}

}  // namespace

void register_table(py::module_& m) {
  m.def("norm", &norm, py::arg("tables"),
        "Euclidean norm of all finite elements that tables are of; 0 if there are none.");
  m.def("unit_counts", &unit_counts, py::arg("units"), R"(How many units of one tensor stand out: a dictionary.

inactive: without an element above zero. constant: of several elements that are all equal. identical: with the bits of an earlier
unit, which are not all zero; 0 if the units have no fingerprints. Units that are empty or not finite are neither inactive nor constant.)");
  py::class_<SummaryTable>(m, "SummaryTable", py::is_final(), R"(The summaries of many tensors, or of the units of one.

table[i] and table[name] are Summary objects; column(statistic) is a NumPy array over the rows.)")
      .def("__len__", [](const SummaryTable& t) { return t.rows.size(); })
      .def("__getitem__", &row_of, py::arg("key"))
      .def(
          "__iter__",
          [](const SummaryTable& t) {
            return py::make_iterator<py::return_value_policy::copy>(t.rows.begin(), t.rows.end());
          },
          py::keep_alive<0, 1>())
      .def_readonly("names", &SummaryTable::names, "Names of the rows if a mapping was given, else None.")
      .def_property_readonly("columns", &columns, "Names of the statistics that column() knows.")
      .def(
          "column",
          [](const SummaryTable& t, py::handle statistic) {
            return column_named(t, short_text_of(statistic, "statistic"));
          },
          py::arg("statistic"), R"(One statistic of every row: an array of shape (rows,).

uint64 for counts and fingerprint, float64 for the others; min and max are int64 or uint64 if every row is an integer
tensor that it holds. ValueError for an unknown name.)")
      .def(
          "to_dict",
          [](const SummaryTable& t) {
            py::dict result;
            for (const std::string& name : columns(t)) result[py::str(name)] = column_named(t, name);
            return result;
          },
          "Every column by name.")
      .def_property_readonly("nonfinite", &nonfinite, "Elements that are NaN or infinite, over all rows.")
      .def_property_readonly("nbytes", &nbytes, "Bytes of memory that the rows take, histograms included.")
      .def("part", &part_of, py::arg("first"), py::arg("last"), "A table of the rows from first to before last.")
      .def("total", &total, "All rows merged into one Summary. ValueError if the table is empty or the dtypes differ.")
      .def("__repr__", [](const SummaryTable& t) { return "SummaryTable(" + std::to_string(t.rows.size()) + " rows)"; })
      .def(py::pickle(&state_of, &restored_table));
}

}  // namespace tensometer
