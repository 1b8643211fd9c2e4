#include "tensor_summary.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "dispatch.hpp"

namespace tensometer {
namespace {

const LogHistogram& histogram_of(const TensorSummary& s) {
  if (!s.histogram) throw std::invalid_argument("histogram: this summary has none; summarize with histogram=True");
  return *s.histogram;
}

// Elements other than zero with magnitudes below `limit`. The zeros of a sample are not as many as those of the tensor, so
// a sample's bins around zero are left out.
std::uint64_t nonzero_below(const TensorSummary& s, double limit) {
  const LogHistogram& histogram = histogram_of(s);
  if (s.summary.linf() < limit) return s.summary.finite() - s.summary.zeros;
  if (histogram.sampled) return histogram.count_magnitudes(std::numeric_limits<double>::denorm_min(), limit);
  const std::uint64_t all = histogram.count_magnitudes(0, limit);
  return all > s.summary.zeros ? all - s.summary.zeros : 0;
}

}  // namespace

void count(const Summary& s, std::uint32_t weight, Counted& counted) {
  counted.negatives += weight * s.negatives;
  counted.positives += weight * (s.finite() - s.negatives - s.zeros);
  counted.lowest = std::min(counted.lowest, s.min);
  counted.highest = std::max(counted.highest, s.max);
}

TensorSummary merge(const TensorSummary& a, const TensorSummary& b) {
  if (a.dtype != b.dtype) {
    throw std::invalid_argument("other: has dtype " + std::string(row(b.dtype).name) + ", this summary " +
                                std::string(row(a.dtype).name));
  }
  const FloatEnvironment environment;
  TensorSummary both = a;
  merge(both.summary, b.summary);
  const bool joins = !a.shape.empty() && a.shape.size() == b.shape.size() &&
                     std::equal(a.shape.begin() + 1, a.shape.end(), b.shape.begin() + 1);
  if (joins) {
    both.shape[0] += b.shape[0];
  } else {
    both.shape = {static_cast<std::int64_t>(both.summary.count)};
  }
  both.fingerprint.reset();
  if (a.histogram && b.histogram) {
    merge(*both.histogram, *b.histogram);
  } else {
    both.histogram.reset();
  }
  return both;
}

double quantile(const TensorSummary& s, double q) {
  const FloatEnvironment environment;
  const double estimate = histogram_of(s).quantile(q);
  if (s.summary.finite() == 0) return nan_value;
  if (q == 0) return s.summary.min;
  if (q == 1) return s.summary.max;
  return std::clamp(estimate, s.summary.min, s.summary.max);
}

std::uint64_t underflow(const TensorSummary& s, std::string_view format) {
  const FloatEnvironment environment;
  return nonzero_below(s, format_named(format).vanishes_below);
}

std::uint64_t subnormal(const TensorSummary& s, std::string_view format) {
  const FloatEnvironment environment;
  const Format& f = format_named(format);
  const std::uint64_t small = nonzero_below(s, f.smallest);
  return small - std::min(small, nonzero_below(s, f.vanishes_below));  // of a sample, one may be exact and one not
}

std::uint64_t overflow(const TensorSummary& s, std::string_view format) {
  const FloatEnvironment environment;
  const LogHistogram& histogram = histogram_of(s);
  const Format& f = format_named(format);
  const double limit = f.overflows_at;
  if (s.summary.linf() < limit || (f.tie_stays && s.summary.linf() == limit)) return 0;
  if (s.summary.min >= limit || s.summary.max <= -limit) return s.summary.finite();
  return std::max<std::uint64_t>(histogram.count_magnitudes(limit, infinity), 1);
}

double headroom(const TensorSummary& s, std::string_view format) {
  const FloatEnvironment environment;
  const double largest = format_named(format).largest;
  return s.summary.finite() ? largest / s.summary.linf() : nan_value;
}

}  // namespace tensometer
