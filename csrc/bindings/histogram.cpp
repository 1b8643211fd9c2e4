#include "histogram.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>

#include "bindings.hpp"
#include "dispatch.hpp"
#include "statistics.hpp"
#include "uniform.hpp"

namespace tensometer {
namespace {

template <class T>
py::array_t<T> array_of(const std::vector<T>& items) {
  return py::array_t<T>(static_cast<py::ssize_t>(items.size()), items.data());
}

// Bins that hold anything, with their edges, as parallel arrays.
py::array_t<double> log_edges(const LogHistogram& h) {
  const FloatEnvironment environment;
  py::array_t<double> edges({static_cast<py::ssize_t>(h.bins.size()), py::ssize_t{2}});
  auto out = edges.mutable_unchecked<2>();
  for (std::size_t i = 0; i < h.bins.size(); ++i) {
    out(static_cast<py::ssize_t>(i), 0) = h.lower_edge(h.bins[i]);
    out(static_cast<py::ssize_t>(i), 1) = h.upper_edge(h.bins[i]);
  }
  return edges;
}

struct UniformHistogram {
  py::array counts, edges;
};

// (lowest, highest) as the tensor's own type: what numpy.histogram takes from the data. None if nothing is finite.
py::object data_range(const Input& input, const py::object& like, const Options& options, bool& all_finite) {
  TensorSummary s;
  {
    const Unlocked unlocked;
    s = std::move(summarize({&input.tensor, 1}, options)[0]);
  }
  all_finite = s.summary.finite() == s.summary.count;
  if (s.summary.finite() == 0) return py::none();
  const py::object type = like.attr("dtype").attr("type");
  if (!has_integer_extremes(s)) return py::make_tuple(type(s.summary.min), type(s.summary.max));
  const IntegerExtremes both = integer_extremes(s);
  if (s.dtype != DType::k_uint64) return py::make_tuple(type(both.min), type(both.max));
  return py::make_tuple(type(static_cast<std::uint64_t>(both.min)), type(static_cast<std::uint64_t>(both.max)));
}

void check_range(const py::object& range) {
  if (range.is_none()) return;
  const bool pair = py::isinstance<py::sequence>(range) && !py::isinstance<py::str>(range) && py::len(range) == 2;
  double ends[2] = {};
  for (int i = 0; pair && i < 2; ++i) {
    ends[i] = PyFloat_AsDouble(py::object(range[py::int_(i)]).ptr());
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  }
  if (!pair) throw py::type_error("range: " + std::string(py::repr(range)) + " is not a pair (lowest, highest)");
  if (!std::isfinite(ends[0]) || !std::isfinite(ends[1]) || ends[0] > ends[1]) {
    throw py::value_error("range: " + std::string(py::repr(range)) + " is not finite and ascending");
  }
}

// NumPy's own edges, so that both agree to the last bit; the range comes from one of our passes if none is given
// (all_inside: and holds every element).
py::array edges_of(const Input& input, const py::object& bins, const py::object& range, const Options& options,
                   bool& all_inside) {
  const auto numpy = py::module_::import("numpy");
  const DType dtype = input.tensor.values.dtype;
  const bool native = dtype != DType::k_bfloat16 && !name_of(dtype).starts_with("float8") && dtype != DType::k_bool;
  const py::object like = numpy.attr("empty")(0, py::arg("dtype") = native ? name_of(dtype) : "float64");
  const bool edges_given = py::isinstance<py::array>(bins) && py::reinterpret_borrow<py::array>(bins).ndim() != 0;
  if (edges_given || PyIndex_Check(bins.ptr()) == 0) {
    if (!edges_given && !py::isinstance<py::sequence>(bins)) {
      throw py::type_error("bins: " + std::string(py::repr(bins)) +
                           " is neither a number of bins nor a sequence of edges");
    }
    return numpy.attr("histogram_bin_edges")(like, bins);
  }
  const long count = whole_number(bins, "bins", 1, 1L << 30);
  return numpy.attr("histogram_bin_edges")(like, count,
                                           range.is_none() ? data_range(input, like, options, all_inside) : range);
}

UniformHistogram uniform(py::handle x, const py::object& bins, const py::object& range, py::handle threads) {
  const Options options = options_of(py::bool_(false), py::int_(6), py::bool_(false), threads);
  if (PyUnicode_Check(bins.ptr()) != 0) {
    throw py::type_error("bins: " + std::string(py::repr(bins)) + " is not a number of bins or a sequence of edges");
  }
  check_range(range);
  const Input input = input_of(x, "x");
  const FloatEnvironment environment;  // NumPy's edges, too, are those of rounding to nearest with sub-normals kept
  bool all_inside = false;
  const py::array edges = edges_of(input, bins, range, options, all_inside);
  const auto wide = py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(edges);
  if (!wide || wide.ndim() != 1 || wide.size() < 2)
    throw py::value_error("bins: edges must be a sequence of at least 2");
  std::vector<std::int64_t> counts;
  {
    const Unlocked unlocked;
    counts = uniform_histogram(input.tensor.values, {wide.data(), static_cast<std::size_t>(wide.size())},
                               options.threads, all_inside);
  }
  if (input.tensor.implicit_zeros != 0) {
    const double zero = 0;
    TensorView zeros;
    zeros.data = reinterpret_cast<const std::byte*>(&zero);
    zeros.dtype = DType::k_float64;
    const auto one = uniform_histogram(zeros, {wide.data(), static_cast<std::size_t>(wide.size())}, 1);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      counts[i] += one[i] * static_cast<std::int64_t>(input.tensor.implicit_zeros);
    }
  }
  return {array_of(counts), edges};
}

void register_uniform(py::module_& m) {
  py::class_<UniformHistogram>(m, "Histogram", py::is_final(),
                               R"(Counts between given edges, as numpy.histogram returns them.

counts: int64, shape (bins,). edges: shape (bins + 1,), of the dtype NumPy would choose. Unpacks to (counts, edges).)")
      .def_readonly("counts", &UniformHistogram::counts, "Elements in each bin: int64, shape (bins,).")
      .def_readonly("edges", &UniformHistogram::edges, "Bin edges, ascending: shape (bins + 1,).")
      .def("__iter__", [](const UniformHistogram& h) { return py::iter(py::make_tuple(h.counts, h.edges)); })
      .def("__repr__", [](const UniformHistogram& h) {
        return "Histogram(bins=" + std::to_string(h.counts.size()) +
               ", total=" + std::string(py::str(h.counts.attr("sum")())) + ")";
      });
  m.def("histogram", &uniform, py::arg("x"), py::arg("bins") = 64, py::arg("range") = py::none(), py::kw_only(),
        py::arg("threads") = py::none(),
        R"(Histogram with uniform or given bins, count for count equal to numpy.histogram.

x: any tensor. bins: how many, or their ascending edges. range: (lowest, highest); by default the finite extremes of x,
where numpy.histogram raises if x holds NaN or infinities. NaN and what lies outside the range are not counted. Elements
and edges are compared as float64, to which integers beyond 2**53 are rounded. The empty tensor gives zero counts between
0 and 1. Raises TypeError or ValueError for wrong arguments, as NumPy does for bins and
range, and for complex x.)");
}

}  // namespace

void register_histogram(py::module_& m) {
  register_uniform(m);
  py::class_<LogHistogram>(m, "LogHistogram", py::is_final(),
                           R"(Counts of finite elements in logarithmic bins, ordered by value.

A bin is one of 2**resolution equal steps of an octave, of either sign. Only bins that hold anything are listed.)")
      .def_readonly("resolution", &LogHistogram::resolution, "Mantissa bits a bin keeps: 2**resolution bins an octave.")
      .def_readonly("sampled", &LogHistogram::sampled, "Whether counts are estimates from part of a large tensor.")
      .def_property_readonly("total", &LogHistogram::total, "Sum of the counts.")
      .def_property_readonly(
          "counts", [](const LogHistogram& h) { return array_of(h.counts); },
          "Elements in each listed bin: uint64, shape (n,).")
      .def_property_readonly(
          "bins", [](const LogHistogram& h) { return array_of(h.bins); },
          "Numbers of the listed bins, ascending by value: uint32, shape (n,).")
      .def_property_readonly("edges", &log_edges, "Lower and upper edge of each listed bin: float64, shape (n, 2).")
      .def(
          "quantile",
          [](const LogHistogram& h, double q) {
            const FloatEnvironment environment;
            return h.quantile(q);
          },
          py::arg("q"),
          R"(The middle of the bin that holds rank floor(q * (total - 1)).

Relative error at most 2**-(resolution + 1) for normal float32 values. NaN if empty. ValueError unless 0 <= q <= 1.)")
      .def(
          "coarsen",
          [](const LogHistogram& h, py::handle resolution) {
            return h.coarsen(static_cast<unsigned>(whole_number(resolution, "resolution", 0, max_resolution)));
          },
          py::arg("resolution"), "Exactly the histogram of a lower resolution. ValueError for a finer one.")
      .def(
          "merge",
          [](LogHistogram a, const LogHistogram& b) {
            merge(a, b);
            return a;
          },
          py::arg("other"), "The histogram of both; the finer one is coarsened first.")
      .def(
          "to_uniform",
          [](const LogHistogram& h, const py::array_t<double, py::array::c_style | py::array::forcecast>& edges) {
            const FloatEnvironment environment;
            const auto counts = h.to_uniform({edges.data(), static_cast<std::size_t>(edges.size())});
            return array_of(counts);
          },
          py::arg("edges"), R"(Estimated counts between consecutive edges: float64, shape (len(edges) - 1,).

A bin that an edge cuts is shared out by length; the share outside the first and the last edge is left out. ValueError unless edges ascend.)")
      .def(
          "__eq__", [](const LogHistogram& a, const LogHistogram& b) { return a == b; }, py::is_operator())
      .def("__repr__", [](const LogHistogram& h) {
        return "LogHistogram(bins=" + std::to_string(h.bins.size()) + ", total=" + std::to_string(h.total()) +
               ", resolution=" + std::to_string(h.resolution) + (h.sampled ? ", sampled" : "") + ")";
      });
}

}  // namespace tensometer
