#include "compare.hpp"

#include <pybind11/stl.h>

#include <cstdio>

#include "bindings.hpp"
#include "dispatch.hpp"
#include "state.hpp"

namespace tensometer {
namespace {

// X(name, expression of a Comparison c, documentation), in the order of to_dict.
#define TENSOMETER_PAIR_STATISTICS(X)                                                                          \
  X(count, c.count(), "Number of pairs.")                                                                      \
  X(equal, c.totals.equal, "Pairs of equal value; two NaN count as equal.")                                    \
  X(changed, c.changed(), "count - equal.")                                                                    \
  X(changed_fraction, c.changed_fraction(), "changed / count; NaN if empty.")                                  \
  X(nonfinite, c.totals.nonfinite,                                                                             \
    "Changed pairs with NaN, an infinity or a difference beyond the dtype of difference.")                     \
  X(relative_update, c.relative_update(),                                                                      \
    "difference.l2 / old_l2; 0 if nothing changed, inf if old is zero or nonfinite is not.")                   \
  X(cosine, c.cosine(), "Cosine of the angle between old and new; NaN if either is all zero.")                 \
  X(max_abs_difference, c.max_abs_difference(), "Largest |new - old|; 0 if empty, inf if nonfinite is not 0.") \
  X(old_l2, c.old_l2(), "Euclidean norm of old over the pairs finite in both.")                                \
  X(new_l2, c.new_l2(), "Euclidean norm of new over the pairs finite in both.")

std::string repr(const Comparison& c) {
  const FloatEnvironment environment;
  char text[160];
  std::snprintf(text, sizeof text, "Comparison(count=%llu, changed=%llu, relative_update=%.6g, cosine=%.9g)",
                static_cast<unsigned long long>(c.count()), static_cast<unsigned long long>(c.changed()),
                c.relative_update(), c.cosine());
  return text;
}

std::string words_of(const Place& place) {
  return place.on_device() ? "on cuda:" + std::to_string(place.device) : "in CPU memory";
}

Comparison compare_inputs(py::handle old_tensor, py::handle new_tensor, py::handle histogram, py::handle resolution,
                          py::handle threads) {
  const Options options = options_of(histogram, resolution, py::bool_(false), threads);
  const Input a = input_of(old_tensor, "old"), b = input_of(new_tensor, "new");
  if (a.tensor.shape != a.tensor.values.shape || b.tensor.shape != b.tensor.values.shape) {
    throw py::type_error(std::string(a.tensor.shape != a.tensor.values.shape ? "old" : "new") +
                         ": is sparse; compare takes dense tensors");
  }
  if (a.place.device != b.place.device) {
    throw py::value_error("new: lies " + words_of(b.place) + ", and old " + words_of(a.place));
  }
  const Unlocked unlocked;
  if (a.place.on_device()) return compare_placed(a.tensor.values, a.place, b.tensor.values, b.place, options);
  return compare(a.tensor.values, b.tensor.values, options);
}

}  // namespace

void register_compare(py::module_& m) {
  py::class_<Comparison> type(m, "Comparison", py::is_final(),
                              R"(What one pass over two tensors found: new - old, element by element.

Norms and cosine are over the pairs in which both elements are finite. Where a changed pair has no finite difference,
relative_update and max_abs_difference are inf and nonfinite says how many there are.)");
  type.def_readonly("difference", &Comparison::difference,
                    "Summary of new - old, computed in float32 (float64 for 64-bit and wider integer dtypes).");
#define TENSOMETER_ROW(name, expression, doc) \
  type.def_property_readonly(                 \
      #name,                                  \
      [](const Comparison& c) {               \
        const FloatEnvironment environment;   \
        return expression;                    \
      },                                      \
      doc);
  TENSOMETER_PAIR_STATISTICS(TENSOMETER_ROW)
#undef TENSOMETER_ROW
  type.def(
          "merge",
          [](const Comparison& a, py::handle b) { return merge(a, instance_of<Comparison>(b, "other", "Comparison")); },
          py::arg("other"), "Both comparisons as one. ValueError if their differences have different dtypes.")
      .def(
          "to_dict",
          [](const Comparison& c) {
            const FloatEnvironment environment;
            py::dict result;
#define TENSOMETER_ROW(name, expression, doc) result[#name] = expression;
            TENSOMETER_PAIR_STATISTICS(TENSOMETER_ROW)
#undef TENSOMETER_ROW
            return result;
          },
          "Every statistic by name; the difference's own are in difference.to_dict().")
      .def(
          "__eq__",
          [](const Comparison& a, const Comparison& b) {
            const FloatEnvironment environment;
            return a == b;
          },
          py::is_operator())
      .def("__repr__", &repr)
      .def(py::pickle([](const Comparison& c) { return py::bytes(save(c)); },
                      [](const py::bytes& state) { return restore_comparison(state); }));
  m.def("compare", &compare_inputs, py::arg("old"), py::arg("new"), py::kw_only(), py::arg("histogram") = false,
        py::arg("resolution") = 6, py::arg("threads") = py::none(), R"(Compare two tensors of one dtype and shape.

A pair with NaN or an infinity in it counts in no norm and no cosine; two NaN count as equal, other such pairs in nonfinite. Empty tensors give counts
and norms of 0 and a cosine of NaN. Elements are paired by index, whatever the memory layouts. Raises ValueError if shapes, dtypes or devices differ or
dtypes are complex, and what summarize raises for either argument. Tensors on a CUDA device are compared there.)");
}

}  // namespace tensometer
