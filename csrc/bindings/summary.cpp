#include <pybind11/stl.h>

#include <cstdio>

#include "bindings.hpp"
#include "dispatch.hpp"
#include "state.hpp"
#include "statistics.hpp"

namespace tensometer {
namespace {

py::object python_value(std::uint64_t x) { return py::int_(x); }
py::object python_value(double x) { return py::float_(x); }

py::object whole_extreme(const TensorSummary& s, bool smallest) {
  const IntegerExtremes both = integer_extremes(s);
  const std::int64_t bits = smallest ? both.min : both.max;
  return s.dtype == DType::k_uint64 ? py::int_(static_cast<std::uint64_t>(bits)) : py::int_(bits);
}

py::object min_of(const TensorSummary& s) {
  return has_integer_extremes(s) ? whole_extreme(s, true) : py::float_(s.summary.smallest());
}

py::object max_of(const TensorSummary& s) {
  return has_integer_extremes(s) ? whole_extreme(s, false) : py::float_(s.summary.largest());
}

std::string number_text(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", x);
  return text;
}

std::string repr(const TensorSummary& s) {
  const FloatEnvironment environment;
  std::string text = "Summary(" + name_of(s.dtype) + ", shape=" + std::string(py::str(shape_tuple(s.shape)));
  const auto extreme = [&](const py::object& exact, double rounded) {
    return has_integer_extremes(s) ? std::string(py::str(exact)) : number_text(rounded);
  };
  text += ", min=" + extreme(min_of(s), s.summary.smallest()) + ", max=" + extreme(max_of(s), s.summary.largest());
  text += ", mean=" + number_text(s.summary.average()) + ", std=" + number_text(s.summary.std());
  text += ", l2=" + number_text(s.summary.l2()) + ", zeros=" + std::to_string(s.summary.zeros);
  return text + ", nonfinite=" + std::to_string(s.summary.nonfinite()) + ")";
}

void define_bin_statistics(py::class_<TensorSummary>& type) {
  type.def(
          "quantile", [](const TensorSummary& self, py::handle q) { return quantile(self, real_number(q, "q")); },
          py::arg("q"),
          R"(The element of rank floor(q * (n - 1)) among the n finite ones, within 2**-(resolution + 1) relative.

Exactly min at 0 and max at 1. NaN if there are none. ValueError without a histogram or unless 0 <= q <= 1.)")
      .def(
          "underflow", [](const TensorSummary& self, py::handle d) { return underflow(self, format_of(d, "dtype")); },
          py::arg("dtype"), R"(Non-zero elements that become zero when rounded to a floating-point dtype.

Those with magnitude below half its smallest sub-normal value; one of exactly half, which becomes zero too, is not counted.
bfloat16 and float32 lose elements only inside the histogram's finest bin: for them all or 0 is returned, 0 if some may be
lost and others not. dtype: a name or dtype object. ValueError without a histogram or for a dtype that is not
floating-point, TypeError for what is no dtype.)")
      .def(
          "subnormal", [](const TensorSummary& self, py::handle d) { return subnormal(self, format_of(d, "dtype")); },
          py::arg("dtype"),
          R"(Elements with magnitude below the smallest normal value of a floating-point dtype, but not counted by underflow.

They survive rounding, with less precision. dtype and errors as for underflow.)")
      .def(
          "overflow", [](const TensorSummary& self, py::handle d) { return overflow(self, format_of(d, "dtype")); },
          py::arg("dtype"),
          R"(Finite elements that round beyond the largest value of a floating-point dtype.

Counted from the first bin on that lies wholly beyond, and never 0 if there is one. Exact for the 8-bit dtypes from resolution
4 on (float8_e4m3fn: 464, which rounds down to 448, counts as beyond if anything is); otherwise a lower bound, for
float16, bfloat16 and float32 those from the next power of two on. dtype and errors as for underflow.)")
      .def(
          "headroom",
          [](const TensorSummary& self, py::handle d) {
            return headroom(self, d.is_none() ? name_of(self.dtype) : format_of(d, "dtype"));
          },
          py::arg("dtype") = py::none(), R"(Largest value of a floating-point dtype (by default the tensor's) over linf.

inf if all is zero, NaN if nothing is finite. dtype and errors as for underflow, but no histogram is needed.)");
}

void define_methods(py::class_<TensorSummary>& type) {
  type.def(
          "variance",
          [](const TensorSummary& self, py::handle ddof) {
            const FloatEnvironment environment;
            return self.summary.variance(static_cast<double>(whole_number(ddof, "ddof", 0, 1 << 30)));
          },
          py::arg("ddof") = 0,
          "Variance of the finite elements divided by their number less ddof; NaN if that is not positive.")
      .def(
          "merge",
          [](const TensorSummary& a, py::handle b) {
            return merge(a, instance_of<TensorSummary>(b, "other", "Summary"));
          },
          py::arg("other"),
          R"(The summary of both tensors as one: counts, extremes and histogram exactly, moments within float64 rounding.

Each merge rounds the mean by at most 2**-53 (|mean| + 4 |difference of the means|) and the variance by 10 * 2**-53 of
itself. ValueError if the dtypes differ, TypeError for what is no Summary.)")
      .def("to_dict", &summary_dict, "Every statistic by name, with dtype, shape and fingerprint; no histogram.")
      .def(
          "__eq__",
          [](const TensorSummary& a, const TensorSummary& b) {
            const FloatEnvironment environment;
            return a == b;
          },
          py::is_operator())
      .def("__repr__", &repr)
      .def(py::pickle([](const TensorSummary& s) { return py::bytes(save(s)); },
                      [](const py::bytes& state) { return restore_summary(state); }));
}

}  // namespace

py::tuple shape_tuple(std::span<const std::int64_t> shape) {
  py::tuple result(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) result[i] = py::int_(shape[i]);
  return result;
}

py::dict summary_dict(const TensorSummary& value) {
  const FloatEnvironment environment;
  const Summary& s = value.summary;
  py::dict result;
  result["dtype"] = name_of(value.dtype);
  result["shape"] = shape_tuple(value.shape);
#define TENSOMETER_ROW(name, kind, expression, doc) result[#name] = python_value(expression);
  TENSOMETER_STATISTICS(TENSOMETER_ROW)
#undef TENSOMETER_ROW
  result["min"] = min_of(value);
  result["max"] = max_of(value);
  result["fingerprint"] = value.fingerprint ? py::object(py::int_(*value.fingerprint)) : py::none();
  return result;
}

void register_summary(py::module_& m) {
  py::class_<TensorSummary> type(m, "Summary", py::is_final(), R"(What one pass over a tensor found.

Extremes, moments and norms are those of the finite elements; NaN and infinities are counted beside them. The same bits on
every instruction set, thread count and device. Made by summarize and its kin, not by hand.)");
  type.def_property_readonly("dtype", [](const TensorSummary& v) { return name_of(v.dtype); }, "Name of the dtype.");
  type.def_property_readonly("shape", [](const TensorSummary& v) { return shape_tuple(v.shape); }, "Extents.");
#define TENSOMETER_PROPERTY_whole(name, expression, doc) \
  type.def_property_readonly(                            \
      #name,                                             \
      [](const TensorSummary& v) {                       \
        const FloatEnvironment environment;              \
        const Summary& s = v.summary;                    \
        return expression;                               \
      },                                                 \
      doc);
#define TENSOMETER_PROPERTY_real(name, expression, doc) TENSOMETER_PROPERTY_whole(name, expression, doc)
#define TENSOMETER_PROPERTY_extreme(name, expression, doc) type.def_property_readonly(#name, &name##_of, doc);
#define TENSOMETER_ROW(name, kind, expression, doc) TENSOMETER_PROPERTY_##kind(name, expression, doc)
  TENSOMETER_STATISTICS(TENSOMETER_ROW)
#undef TENSOMETER_ROW
  type.def_property_readonly(
      "fingerprint", [](const TensorSummary& v) { return v.fingerprint; },
      "64-bit hash of bits, dtype and shape if asked for (fingerprint=True), else None.");
  type.def_property_readonly(
      "histogram", [](const TensorSummary& v) { return v.histogram ? &*v.histogram : nullptr; },
      py::return_value_policy::reference_internal,
      "The logarithmic histogram if asked for (histogram=True), else None.");
  define_bin_statistics(type);
  define_methods(type);
}

}  // namespace tensometer
