// The Summary value: fields, merge, derived statistics. The only statistics arithmetic of the project.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "both.hpp"

namespace tensometer {

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

// X(type, name, value of an empty tensor, how two of them merge). Merge, encoding, table columns and equality follow it.
// Moments and extremes are those of the finite elements. `exponent` is 0 except for float64 data whose squares leave
// float64's range: mean, m2 and abs_sum are then those of the elements times 2^-exponent.
// integer_min and integer_max are filled for int64, and for uint64 less 2^63, whose extremes float64 cannot hold.
#define TENSOMETER_SUMMARY_FIELDS(X)             \
  X(std::uint64_t, count, 0, add)                \
  X(std::uint64_t, zeros, 0, add)                \
  X(std::uint64_t, negatives, 0, add)            \
  X(std::uint64_t, nan, 0, add)                  \
  X(std::uint64_t, posinf, 0, add)               \
  X(std::uint64_t, neginf, 0, add)               \
  X(double, min, infinity, lower)                \
  X(double, max, -infinity, upper)               \
  X(double, mean, 0, moment)                     \
  X(double, m2, 0, moment)                       \
  X(double, abs_sum, 0, moment)                  \
  X(std::int64_t, exponent, 0, moment)           \
  X(std::int64_t, integer_min, INT64_MAX, lower) \
  X(std::int64_t, integer_max, INT64_MIN, upper)

struct Summary {
#define TENSOMETER_FIELD(type, name, empty, rule) type name = empty;
  TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD)
#undef TENSOMETER_FIELD

  bool operator==(const Summary&) const = default;

  TENSOMETER_BOTH std::uint64_t nonfinite() const { return nan + posinf + neginf; }
  TENSOMETER_BOTH std::uint64_t finite() const { return count - nonfinite(); }

  // Each is NaN where no element is finite, except the sums and norms, which are then 0.
  double smallest() const { return finite() ? min : nan_value; }
  double largest() const { return finite() ? max : nan_value; }
  double average() const { return finite() ? scaled(mean, 1) : nan_value; }
  // ddof as in numpy.var; NaN unless finite() > ddof.
  double variance(double ddof) const {
    const double n = static_cast<double>(finite());
    return n > ddof ? scaled(m2 / (n - ddof), 2) : nan_value;
  }
  double std() const { return finite() ? scaled(std::sqrt(m2 / number()), 1) : nan_value; }
  double sum() const { return scaled(mean * number(), 1); }
  double l1() const { return scaled(abs_sum, 1); }
  double l2() const { return scaled(std::sqrt(m2 + mean * mean * number()), 1); }
  double linf() const { return finite() ? std::max(std::fabs(min), std::fabs(max)) : 0; }
  double rms() const { return finite() ? scaled(std::sqrt(m2 / number() + mean * mean), 1) : nan_value; }
  double abs_mean() const { return finite() ? scaled(abs_sum / number(), 1) : nan_value; }
  double zero_fraction() const { return fraction(zeros); }
  double nonfinite_fraction() const { return fraction(nonfinite()); }

 private:
  double number() const { return static_cast<double>(finite()); }
  double fraction(std::uint64_t part) const {
    return count ? static_cast<double>(part) / static_cast<double>(count) : nan_value;
  }
  double scaled(double value, int power) const {
    return exponent == 0 ? value : std::ldexp(value, static_cast<int>(exponent) * power);
  }
};

// The moments of elements times 2^(exponent - to).
TENSOMETER_BOTH inline void scale_moments(Summary& s, std::int64_t to) {
  const int shift = static_cast<int>(s.exponent - to);
  s.mean = std::ldexp(s.mean, shift);
  s.m2 = std::ldexp(s.m2, 2 * shift);
  s.abs_sum = std::ldexp(s.abs_sum, shift);
  s.exponent = to;
}

// Brings two values to one exponent, the larger; one without magnitude takes the other's.
TENSOMETER_BOTH inline void align(Summary& a, Summary& b) {
  if (a.exponent == b.exponent) return;
  if (a.abs_sum == 0) {
    a.exponent = b.exponent;
  } else if (b.abs_sum == 0) {
    b.exponent = a.exponent;
  } else if (a.exponent < b.exponent) {
    scale_moments(a, b.exponent);
  } else {
    scale_moments(b, a.exponent);
  }
}

// Chan, Golub, LeVeque (1979): the moments of two samples taken together.
TENSOMETER_BOTH inline void merge_moments(Summary& a, Summary b) {
  if (b.finite() == 0) return;
  if (a.finite() == 0) {
    a.mean = b.mean, a.m2 = b.m2, a.abs_sum = b.abs_sum, a.exponent = b.exponent;
    return;
  }
  align(a, b);
  const double n_a = static_cast<double>(a.finite()), n_b = static_cast<double>(b.finite());
  const double share = n_b / (n_a + n_b), delta = b.mean - a.mean;
  a.mean += delta * share;
  a.m2 += b.m2 + delta * delta * (n_a * share);
  a.abs_sum += b.abs_sum;
}

// Counts and extremes of both: behind merge_moments(), which needs to know those of a alone.
TENSOMETER_BOTH inline void merge_counts(Summary& a, const Summary& b) {
#define TENSOMETER_MERGE_add(name) a.name += b.name;
#define TENSOMETER_MERGE_lower(name) a.name = std::min(a.name, b.name);
#define TENSOMETER_MERGE_upper(name) a.name = std::max(a.name, b.name);
#define TENSOMETER_MERGE_moment(name)
#define TENSOMETER_FIELD(type, name, empty, rule) TENSOMETER_MERGE_##rule(name)
  TENSOMETER_SUMMARY_FIELDS(TENSOMETER_FIELD)
#undef TENSOMETER_FIELD
#undef TENSOMETER_MERGE_add
#undef TENSOMETER_MERGE_lower
#undef TENSOMETER_MERGE_upper
#undef TENSOMETER_MERGE_moment
}

// a becomes the summary of both. Exact for counts and extremes; an empty summary on either side changes nothing.
TENSOMETER_BOTH inline void merge(Summary& a, const Summary& b) {
  merge_moments(a, b);
  merge_counts(a, b);
}

// The summary of `count` zeros: what a sparse tensor does not store.
inline Summary zeros_summary(std::uint64_t count) {
  Summary s;
  if (count == 0) return s;
  s.count = s.zeros = count;
  s.min = s.max = 0;
  return s;
}

}  // namespace tensometer
