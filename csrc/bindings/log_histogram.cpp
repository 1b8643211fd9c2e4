#include "bindings.hpp"
#include "dispatch.hpp"
#include "histogram.hpp"
#include "state.hpp"

namespace tensometer {
namespace {

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

}  // namespace

void register_log_histogram(py::module_& m) {
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
          [](const LogHistogram& h, py::handle q) {
            const FloatEnvironment environment;
            return h.quantile(real_number(q, "q"));
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
          [](LogHistogram a, py::handle b) {
            merge(a, instance_of<LogHistogram>(b, "other", "LogHistogram"));
            return a;
          },
          py::arg("other"), "The histogram of both; the finer one is coarsened first.")
      .def(
          "to_uniform",
          [](const LogHistogram& h, py::handle given) {
            const FloatEnvironment environment;
            const Edges edges = edges_of(given, "edges");
            const auto counts = h.to_uniform({edges.data(), static_cast<std::size_t>(edges.size())});
            return array_of(counts);
          },
          py::arg("edges"), R"(Estimated counts between consecutive edges: float64, shape (len(edges) - 1,).

A bin that an edge cuts is shared out by length; the share outside the first and the last edge is left out. ValueError unless edges ascend.)")
      .def(
          "__eq__", [](const LogHistogram& a, const LogHistogram& b) { return a == b; }, py::is_operator())
      .def("__repr__",
           [](const LogHistogram& h) {
             return "LogHistogram(bins=" + std::to_string(h.bins.size()) + ", total=" + std::to_string(h.total()) +
                    ", resolution=" + std::to_string(h.resolution) + (h.sampled ? ", sampled" : "") + ")";
           })
      .def(py::pickle([](const LogHistogram& h) { return py::bytes(save(h)); },
                      [](const py::bytes& state) { return restore_histogram(state); }));
}

}  // namespace tensometer
