// The statistics that a summary shows, in the order in which tables and dictionaries show them: one row each. Properties,
// columns and to_dict follow this list.
#pragma once

#include "tensor_summary.hpp"

namespace tensometer {

// X(name, kind, expression of a Summary s, documentation). kind: whole (uint64), real (float64) or extreme (whole for
// integer tensors, real for the others).
#define TENSOMETER_STATISTICS(X)                                                                                      \
  X(count, whole, s.count, "Number of elements.")                                                                     \
  X(zeros, whole, s.zeros, "Elements equal to zero, of either sign.")                                                 \
  X(negatives, whole, s.negatives, "Finite elements below zero.")                                                     \
  X(nan, whole, s.nan, "Elements that are NaN.")                                                                      \
  X(posinf, whole, s.posinf, "Elements that are positive infinity.")                                                  \
  X(neginf, whole, s.neginf, "Elements that are negative infinity.")                                                  \
  X(nonfinite, whole, s.nonfinite(), "nan + posinf + neginf.")                                                        \
  X(min, extreme, s.smallest(), "Smallest finite element; NaN if there is none. A whole number for integer tensors.") \
  X(max, extreme, s.largest(), "Largest finite element; NaN if there is none. A whole number for integer tensors.")   \
  X(mean, real, s.average(), "Mean of the finite elements; NaN if there are none.")                                   \
  X(var, real, s.variance(0), "Population variance of the finite elements; NaN if there are none.")                   \
  X(std, real, s.std(), "Square root of var.")                                                                        \
  X(sum, real, s.sum(), "Sum of the finite elements, as mean times their number; 0 if there are none.")               \
  X(l1, real, s.l1(), "Sum of magnitudes of the finite elements.")                                                    \
  X(l2, real, s.l2(), "Euclidean norm of the finite elements; right where squares leave the dtype's range.")          \
  X(linf, real, s.linf(), "Largest magnitude of the finite elements; 0 if there are none.")                           \
  X(rms, real, s.rms(), "Root of the mean square of the finite elements; NaN if there are none.")                     \
  X(abs_mean, real, s.abs_mean(), "Mean magnitude of the finite elements; NaN if there are none.")                    \
  X(zero_fraction, real, s.zero_fraction(), "zeros / count; NaN if empty.")                                           \
  X(nonfinite_fraction, real, s.nonfinite_fraction(), "nonfinite / count; NaN if empty.")

// The exact extremes of integer tensors. bits: as a uint64 for uint64 tensors, as an int64 otherwise.
struct IntegerExtremes {
  std::int64_t min, max;
};

inline bool has_integer_extremes(const TensorSummary& s) { return is_integer(s.dtype) && s.summary.count != 0; }

inline IntegerExtremes integer_extremes(const TensorSummary& s) {
  const Summary& v = s.summary;
  if (s.dtype == DType::k_int64) return {v.integer_min, v.integer_max};
  if (s.dtype == DType::k_uint64) return {v.integer_min ^ INT64_MIN, v.integer_max ^ INT64_MIN};
  return {static_cast<std::int64_t>(v.min), static_cast<std::int64_t>(v.max)};
}

}  // namespace tensometer
