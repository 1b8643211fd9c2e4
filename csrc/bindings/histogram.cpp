#include "histogram.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>

#include "bindings.hpp"
#include "dispatch.hpp"
#include "state.hpp"
#include "statistics.hpp"
#include "uniform.hpp"

namespace tensometer {
namespace {

// (lowest, highest) as the tensor's own type: what numpy.histogram takes from the data. None if nothing is finite.
py::object data_range(const Input& input, const py::object& like, const Options& options, bool& all_finite) {
  TensorSummary s;
  {
    const Unlocked unlocked;
    s = summary_of(input, options);
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
  const bool text = py::isinstance<py::str>(range) || py::isinstance<py::bytes>(range);
  const bool pair = py::isinstance<py::sequence>(range) && !text && py::len(range) == 2;
  double ends[2] = {};
  if (!pair) throw py::type_error("range: " + shown(range) + " is not a pair (lowest, highest)");
  for (int i = 0; i < 2; ++i) ends[i] = real_number(range[py::int_(i)], "range");
  if (!std::isfinite(ends[0]) || !std::isfinite(ends[1]) || ends[0] > ends[1]) {
    throw py::value_error("range: " + shown(range) + " is not finite and ascending");
  }
}

// Whether `bins` is a number rather than edges. (Arrays of one element may pass as numbers, but are edges.)
bool is_number(const py::object& bins) {
  if (PyIndex_Check(bins.ptr()) == 0) return false;
  const Py_ssize_t length = PyObject_Size(bins.ptr());
  PyErr_Clear();
  return length < 0;
}

// NumPy's own edges, so that both agree to the last bit; the range comes from one of our passes if none is given
// (all_inside: and holds every element).
py::array edges_like_numpy(const Input& input, const py::object& bins, const py::object& range, const Options& options,
                           bool& all_inside) {
  const auto numpy = py::module_::import("numpy");
  const DType dtype = input.tensor.values.dtype;
  const bool native = dtype != DType::k_bfloat16 && !name_of(dtype).starts_with("float8") && dtype != DType::k_bool;
  const py::object like = numpy.attr("empty")(0, py::arg("dtype") = native ? name_of(dtype) : "float64");
  if (is_number(bins)) {
    const long count = whole_number(bins, "bins", 1, 1L << 30);
    return numpy.attr("histogram_bin_edges")(like, count,
                                             range.is_none() ? data_range(input, like, options, all_inside) : range);
  }
  const Edges edges = edges_of(bins, "bins");
  for (py::ssize_t i = 1; i < edges.size(); ++i) {
    if (edges.at(i - 1) <= edges.at(i)) continue;
    throw py::value_error("bins: edges must ascend, and do not at " + std::to_string(i));
  }
  return numpy.attr("asarray")(bins);
}

UniformHistogram uniform(py::handle x, const py::object& bins, const py::object& range, py::handle threads) {
  const Options options = options_of(py::bool_(false), py::int_(6), py::bool_(false), threads);
  const bool neither = PyUnicode_Check(bins.ptr()) != 0 || PyBytes_Check(bins.ptr()) != 0 ||
                       (!is_number(bins) && PyObject_Size(bins.ptr()) < 0);
  if (neither) {
    PyErr_Clear();
    throw py::type_error("bins: " + shown(bins) + " is neither a number of bins nor a sequence of edges");
  }
  check_range(range);
  const Input input = input_of(x, "x");
  const FloatEnvironment environment;  // NumPy's edges, too, are those of rounding to nearest with sub-normals kept
  bool all_inside = false;
  const py::array edges = edges_like_numpy(input, bins, range, options, all_inside);
  const Edges wide(edges);
  std::vector<std::int64_t> counts;
  {
    const Unlocked unlocked;
    const std::span<const double> bounds(wide.data(), static_cast<std::size_t>(wide.size()));
    counts = input.place.on_device() ? histogram_placed(input.tensor.values, input.place, bounds)
                                     : uniform_histogram(input.tensor.values, bounds, options.threads, all_inside);
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

UniformHistogram restored_uniform(const py::tuple& state) {
  if (state.size() != 2 || !py::isinstance<py::array>(state[0]) || !py::isinstance<py::array>(state[1])) {
    ByteReader::fail();
  }
  return {state[0], state[1]};
}

}  // namespace

void register_histogram(py::module_& m) {
  py::class_<UniformHistogram>(m, "Histogram", py::is_final(),
                               R"(Counts between given edges, as numpy.histogram returns them.

counts: int64, shape (bins,). edges: shape (bins + 1,), of the dtype NumPy would choose. Unpacks to (counts, edges).)")
      .def_readonly("counts", &UniformHistogram::counts, "Elements in each bin: int64, shape (bins,).")
      .def_readonly("edges", &UniformHistogram::edges, "Bin edges, ascending: shape (bins + 1,).")
      .def("__iter__", [](const UniformHistogram& h) { return py::iter(py::make_tuple(h.counts, h.edges)); })
      .def("__repr__",
           [](const UniformHistogram& h) {
             return "Histogram(bins=" + std::to_string(h.counts.size()) +
                    ", total=" + std::string(py::str(h.counts.attr("sum")())) + ")";
           })
      .def(py::pickle([](const UniformHistogram& h) { return py::make_tuple(h.counts, h.edges); }, &restored_uniform));
  m.def("histogram", &uniform, py::arg("x"), py::arg("bins") = 64, py::arg("range") = py::none(), py::kw_only(),
        py::arg("threads") = py::none(),
        R"(Histogram with uniform or given bins, count for count equal to numpy.histogram.

x: any tensor. bins: how many, or their ascending edges. range: (lowest, highest); by default the finite extremes of x,
where numpy.histogram raises if x holds NaN or infinities. NaN and what lies outside the range are not counted. Elements
and edges are compared exactly, as float64, to which integers beyond 2**53 are rounded (numpy.histogram computes with
float16 in float16, and so may count sub-normal ones one bin off). The empty tensor gives zero counts between 0 and 1.
There are no weights and no density. Raises TypeError or ValueError for wrong arguments and for complex x.)");
}

}  // namespace tensometer
