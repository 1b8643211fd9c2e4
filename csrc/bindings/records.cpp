// Summaries as columns and back: what a run stores is the fields of Summary, and statistics are computed when they are asked
// for, here, by the same expressions as everywhere.
#include <pybind11/stl.h>

#include <algorithm>

#include "bindings.hpp"
#include "dispatch.hpp"
#include "state.hpp"
#include "statistics.hpp"

namespace tensometer {
namespace {

// The resolution that tells "no histogram" from one without bins.
constexpr std::uint8_t no_histogram = 255;

template <class T>
py::array_t<T> empty_column(std::size_t size) {
  return py::array_t<T>(static_cast<py::ssize_t>(size));
}

std::vector<const TensorSummary*> rows_of(const py::iterable& tables) {
  std::vector<const TensorSummary*> rows;
  for (const py::handle table : tables) {
    for (const TensorSummary& row : instance_of<SummaryTable>(table, "tables", "SummaryTable").rows)
      rows.push_back(&row);
  }
  return rows;
}

// The bins of a row as steps from the one before (the first from 0), so that they are small and alike.
void pack_histograms(const std::vector<const TensorSummary*>& rows, py::dict& columns) {
  std::size_t total = 0;
  for (const TensorSummary* row : rows) total += row->histogram ? row->histogram->bins.size() : 0;
  auto lengths = empty_column<std::uint32_t>(rows.size());
  auto resolutions = empty_column<std::uint8_t>(rows.size());
  auto sampled = empty_column<std::uint8_t>(rows.size());
  auto steps = empty_column<std::uint16_t>(total);
  auto counts = empty_column<std::uint64_t>(total);
  std::size_t at = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::optional<LogHistogram>& histogram = rows[i]->histogram;
    resolutions.mutable_data()[i] = histogram ? static_cast<std::uint8_t>(histogram->resolution) : no_histogram;
    sampled.mutable_data()[i] = histogram && histogram->sampled;
    lengths.mutable_data()[i] = histogram ? static_cast<std::uint32_t>(histogram->bins.size()) : 0;
    std::uint32_t before = 0;
    for (std::size_t k = 0; histogram && k < histogram->bins.size(); ++k, ++at) {
      steps.mutable_data()[at] = static_cast<std::uint16_t>(histogram->bins[k] - before);
      counts.mutable_data()[at] = histogram->counts[k];
      before = histogram->bins[k];
    }
  }
  columns["histogram_resolution"] = resolutions;
  columns["histogram_sampled"] = sampled;
  columns["histogram_bins"] = lengths;
  columns["bin_step"] = steps;
  columns["bin_count"] = counts;
}

py::dict pack(const std::vector<const TensorSummary*>& rows) {
  // One pass over the rows, which lie far apart.
#define TENSOMETER_FIELD(type, name, empty, rule)       \
  auto name##_column = empty_column<type>(rows.size()); \
  type* const name##_out = name##_column.mutable_data();
  TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD)
#undef TENSOMETER_FIELD
  auto fingerprints = empty_column<std::uint64_t>(rows.size());
  std::uint64_t* const fingerprints_out = fingerprints.mutable_data();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const TensorSummary& row = *rows[i];
#define TENSOMETER_FIELD(type, name, empty, rule) name##_out[i] = row.summary.name;
    TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD)
#undef TENSOMETER_FIELD
    fingerprints_out[i] = row.fingerprint.value_or(0);
  }
  py::dict columns;
#define TENSOMETER_FIELD(type, name, empty, rule) columns[#name] = name##_column;
  TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD)
#undef TENSOMETER_FIELD
  columns["fingerprint"] = fingerprints;
  pack_histograms(rows, columns);
  return columns;
}

// Writes a statistic of some rows.
using WriteStatistic = void (*)(const TensorSummary* const* rows, std::size_t count, double* out);

WriteStatistic writer_of(const std::string& name) {
#define TENSOMETER_ROW(known, kind, expression, doc)                              \
  if (name == #known) {                                                           \
    return [](const TensorSummary* const* rows, std::size_t count, double* out) { \
      for (std::size_t i = 0; i < count; ++i) {                                   \
        const Summary& s = rows[i]->summary;                                      \
        out[i] = static_cast<double>(expression);                                 \
      }                                                                           \
    };                                                                            \
  }
  TENSOMETER_STATISTICS(TENSOMETER_ROW)
#undef TENSOMETER_ROW
  throw py::value_error("statistic: '" + name + "' is unknown; see tensometer.SummaryTable.columns");
}

// So many rows at a time stay in the first cache while one statistic after another is made of them.
constexpr std::size_t rows_at_once = 64;

py::array statistics(const py::iterable& tables, const std::vector<std::string>& names) {
  std::vector<WriteStatistic> writers;
  for (const std::string& name : names) writers.push_back(writer_of(name));
  const std::vector<const TensorSummary*> rows = rows_of(tables);
  py::array_t<double> result({names.size(), rows.size()});
  double* const out = result.mutable_data();
  const FloatEnvironment environment;
  for (std::size_t first = 0; first < rows.size(); first += rows_at_once) {
    const std::size_t count = std::min(rows_at_once, rows.size() - first);
    for (std::size_t k = 0; k < writers.size(); ++k) writers[k](&rows[first], count, out + k * rows.size() + first);
  }
  return result;
}

// A column of the mapping as an array of its type; the value of an empty tensor where it is missing. One that is a single
// value in every row need not be written out: NumPy's step of 0.
template <class T>
class Column {
 public:
  Column(const py::dict& columns, const char* name, T missing, std::size_t size) : missing_(missing) {
    if (!columns.contains(name)) return;
    array_ = Array::ensure(columns[name]);
    if (!array_ || array_.ndim() != 1 || static_cast<std::size_t>(array_.size()) != size) {
      PyErr_Clear();
      throw py::value_error("columns: " + std::string(name) + " is not a column of " + std::to_string(size) +
                            " numbers");
    }
    if (array_.strides(0) == 0 && size != 0) {
      missing_ = *array_.data();
    } else {
      array_ = py::array_t<T, py::array::c_style>::ensure(array_);
      if (!array_) throw py::error_already_set();
      data_ = array_.data(), step_ = 1;
    }
  }
  Column(const Column&) = delete;
  Column& operator=(const Column&) = delete;
  T operator[](std::size_t i) const { return data_[i * step_]; }

 private:
  using Array = py::array_t<T, py::detail::npy_api::NPY_ARRAY_ALIGNED_>;
  Array array_;
  T missing_;
  const T* data_ = &missing_;
  std::size_t step_ = 0;
};

// The fields of a summary, one column each.
class SummaryColumns {
 public:
#define TENSOMETER_FIELD(type, name, empty, rule) name##_column(columns, #name, empty, size),
  SummaryColumns(const py::dict& columns, std::size_t size) : TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD) size_(size) {}
#undef TENSOMETER_FIELD
  std::size_t size() const { return size_; }
  [[gnu::always_inline]] Summary operator[](std::size_t i) const {  // so that only what is used is read
    Summary s;
#define TENSOMETER_FIELD(type, name, empty, rule) s.name = name##_column[i];
    TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD)
#undef TENSOMETER_FIELD
    return s;
  }

 private:
#define TENSOMETER_FIELD(type, name, empty, rule) Column<type> name##_column;
  TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD)
#undef TENSOMETER_FIELD
  std::size_t size_;
};

// A statistic of every row. Extremes are float64: exact for all dtypes but 64-bit integers beyond 2^53.
template <class T, class Get>
py::array_t<T> statistic_of(const py::dict& columns, std::size_t size, Get get) {
  const SummaryColumns rows(columns, size);
  auto result = empty_column<T>(size);
  T* out = result.mutable_data();
  const FloatEnvironment environment;
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<T>(get(rows[i]));
  return result;
}

py::array unpack(const py::dict& columns, py::handle statistic, py::handle rows) {
  const std::string name = short_text_of(statistic, "statistic");
  const auto size = static_cast<std::size_t>(whole_number(rows, "rows", 0, 1L << 40));
#define TENSOMETER_KIND_whole(expression) \
  return statistic_of<std::uint64_t>(columns, size, [](const Summary& s) { return expression; });
#define TENSOMETER_KIND_real(expression) \
  return statistic_of<double>(columns, size, [](const Summary& s) { return expression; });
#define TENSOMETER_KIND_extreme(expression) TENSOMETER_KIND_real(expression)
#define TENSOMETER_ROW(known, kind, expression, doc) \
  if (name == #known) {                              \
    TENSOMETER_KIND_##kind(expression)               \
  }
  TENSOMETER_STATISTICS(TENSOMETER_ROW)
#undef TENSOMETER_ROW
  throw py::value_error("statistic: '" + name + "' is unknown; see tensometer.SummaryTable.columns");
}

LogHistogram histogram_of(const py::array_t<std::uint32_t, py::array::c_style | py::array::forcecast>& bins,
                          const py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast>& counts,
                          py::handle resolution, bool sampled) {
  LogHistogram histogram;
  histogram.resolution = static_cast<unsigned>(whole_number(resolution, "resolution", 0, max_resolution));
  histogram.sampled = sampled;
  histogram.bins.assign(bins.data(), bins.data() + bins.size());
  histogram.counts.assign(counts.data(), counts.data() + counts.size());
  return restore_histogram(save(histogram));  // which checks it
}

// The histograms of packed rows, taken one after another.
class HistogramColumns {
 public:
  HistogramColumns(const py::dict& columns, std::size_t size)
      : resolutions_(columns, "histogram_resolution", no_histogram, size),
        sampled_(columns, "histogram_sampled", 0, size), lengths_(columns, "histogram_bins", 0, size) {
    for (std::size_t i = 0; i < size; ++i) total_ += lengths_[i];
    steps_.emplace(columns, "bin_step", std::uint16_t{0}, total_);
    counts_.emplace(columns, "bin_count", std::uint64_t{0}, total_);
  }
  // Row i, which must be the one after the last. Throws std::invalid_argument for what no histogram holds.
  std::optional<LogHistogram> take(std::size_t i) {
    const std::size_t end = at_ + lengths_[i];
    LogHistogram histogram;
    histogram.resolution = resolutions_[i];
    histogram.sampled = sampled_[i] != 0;
    for (std::uint32_t bin = 0; at_ < end; ++at_) {
      bin += (*steps_)[at_];
      histogram.bins.push_back(bin);
      histogram.counts.push_back((*counts_)[at_]);
    }
    if (resolutions_[i] == no_histogram) return std::nullopt;
    return restore_histogram(save(histogram));  // which checks it
  }

 private:
  Column<std::uint8_t> resolutions_, sampled_;
  Column<std::uint32_t> lengths_;
  std::size_t total_ = 0, at_ = 0;
  std::optional<Column<std::uint16_t>> steps_;
  std::optional<Column<std::uint64_t>> counts_;
};

py::dict merge_rows(const py::dict& columns, const py::array_t<std::int64_t, py::array::c_style>& groups,
                    py::handle count) {
  const auto size = static_cast<std::size_t>(groups.size());
  KeptVector<TensorSummary> merged(static_cast<std::size_t>(whole_number(count, "count", 0, 1L << 40)));
  std::vector<bool> begun(merged.size(), false);
  const SummaryColumns rows(columns, size);
  HistogramColumns histograms(columns, size);
  const FloatEnvironment environment;
  for (std::size_t i = 0; i < size; ++i) {
    const std::int64_t group = groups.data()[i];
    const std::optional<LogHistogram> histogram = histograms.take(i);
    if (group < 0) continue;
    const auto at = static_cast<std::size_t>(group);
    if (at >= merged.size()) throw py::value_error("groups: " + std::to_string(group) + " is not below count");
    const Summary row = rows[i];
    if (!possible(row)) throw py::value_error("columns: row " + std::to_string(i) + " is no summary");
    merge(merged[at].summary, row);
    if (!possible(merged[at].summary)) throw py::value_error("columns: more elements than any tensor has");
    if (!begun[at]) {
      merged[at].histogram = histogram;
    } else if (merged[at].histogram && histogram) {
      merge(*merged[at].histogram, *histogram);
    } else {
      merged[at].histogram.reset();
    }
    begun[at] = true;
  }
  std::vector<const TensorSummary*> pointers;
  for (const TensorSummary& one : merged) pointers.push_back(&one);
  return pack(pointers);
}

}  // namespace

void register_records(py::module_& m) {
  m.def("log_histogram", &histogram_of, py::arg("bins"), py::arg("counts"), py::arg("resolution"), py::arg("sampled"),
        R"(The LogHistogram with these bins, ascending, and their counts. ValueError for what no histogram holds.)");
  m.def(
      "merge_rows", &merge_rows, py::arg("columns"), py::arg("groups"), py::arg("count"),
      R"(Packed rows merged by groups: packed columns of `count` rows. Row i belongs to groups[i], to none if that is negative.

Rows of a group merge in their order. A histogram comes of groups whose rows all have one. ValueError for what no summary holds.)");
  m.def(
      "pack", [](const py::iterable& tables) { return pack(rows_of(tables)); }, py::arg("tables"),
      R"(The rows of SummaryTables as columns: a dictionary from names to arrays.

The fields of a summary and the fingerprint (0 if there is none) have one element a row, and so have histogram_resolution (255:
no histogram), histogram_sampled and histogram_bins; bin_step and bin_count hold the bins of all rows one after another.)");
  m.def("statistics", &statistics, py::arg("tables"), py::arg("names"),
        R"(Statistics of the rows of SummaryTables, all made in one pass: a float64 array of shape (names, rows).

Counts are exact to 2^53, extremes as unpack() gives them. ValueError for an unknown statistic.)");
  m.def("unpack", &unpack, py::arg("columns"), py::arg("statistic"), py::arg("rows"),
        R"(One statistic of every row of packed columns: an array of shape (rows,), uint64 for counts, else float64.

A missing column stands for the field of an empty tensor. ValueError for an unknown statistic or a column of another length.)");
}

}  // namespace tensometer
