// The logarithmic histogram as a value: merge, coarsen, quantile. And the dense counter it is gathered in.
//
// A bin is the top bits of a value's float32 pattern: sign, exponent and `resolution` mantissa bits, so an octave has
// 2^resolution bins of equal width, sub-normals included. Float64 beyond float32's range falls in the outermost finite
// bins. Non-finite elements are in none. Bins are numbered by value: the negative ones first, from -largest up.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "dtype.hpp"
#include "kept.hpp"

namespace tensometer {

inline constexpr unsigned max_resolution = 7;  // bfloat16 has seven mantissa bits; 2^16 bins

struct LogHistogram {
  unsigned resolution = 6;
  bool sampled = false;              // whether counts are estimates from part of the elements
  KeptVector<std::uint32_t> bins;    // those that hold anything, ascending
  KeptVector<std::uint64_t> counts;  // of each

  bool operator==(const LogHistogram&) const = default;

  // 0 for an empty tensor.
  std::uint64_t total() const;
  // The bin's bounds: it holds lower <= x < upper if positive, lower < x <= upper if negative.
  double lower_edge(std::uint32_t bin) const;
  double upper_edge(std::uint32_t bin) const;
  // The middle of the bin of the element with rank floor(q * (total - 1)); NaN if there is none. Its relative error is
  // at most 2^-(resolution + 1) for normal float32 values. Throws std::invalid_argument unless 0 <= q <= 1.
  double quantile(double q) const;
  // Exactly the histogram of that lower resolution. Throws std::invalid_argument for a finer one.
  LogHistogram coarsen(unsigned coarser) const;
  // Estimated counts between consecutive edges (ascending): a bin that an edge cuts is shared out by length.
  std::vector<double> to_uniform(std::span<const double> edges) const;
  // Adds elements to one bin.
  void add(std::uint32_t bin, std::uint64_t count);
  // Elements with magnitude in [low, high), counting only bins that lie wholly inside.
  std::uint64_t count_magnitudes(double low, double high) const;
};

// Adds b's counts; the finer one is coarsened first, sampled if either is.
void merge(LogHistogram& a, const LogHistogram& b);

// The bin of a finite value.
std::uint32_t bin_of(double value, unsigned resolution);

// What is known of the elements that were counted, as often as they were: it tells where to look for them in the tables.
struct Counted {
  std::uint64_t negatives = 0, positives = 0;
  double lowest = std::numeric_limits<double>::infinity(), highest = -std::numeric_limits<double>::infinity();
};

// The two dense tables that a histogram kernel counts in. Always zero between uses, so that a tensor of a few elements
// does not pay for clearing them.
class LogCounter {
 public:
  std::uint32_t* tables(unsigned resolution);
  // Returns what was counted, ordered by value, and leaves zeros.
  LogHistogram extract(unsigned resolution, const Counted& counted);
  // Leaves zeros, whatever was counted.
  void clear() { std::fill(tables_.begin(), tables_.end(), 0u); }

 private:
  std::vector<std::uint32_t> tables_;
  std::vector<std::uint32_t> bins_;  // of the last extraction: kept so that results are allocated once, at their size
  std::vector<std::uint64_t> counts_;
};

// A numeric format that tensors are served in, as far as rounding a value to it is concerned.
struct Format {
  std::string_view name;
  double largest;          // largest finite value
  double overflows_at;     // from here on, rounding to nearest leaves the finite range
  double smallest;         // smallest normal value
  double vanishes_below;   // half the smallest sub-normal value: what is smaller rounds to zero
  bool tie_stays = false;  // overflows_at itself still rounds to the largest value, which is even
};

// Throws std::invalid_argument that lists the known names.
const Format& format_named(std::string_view name);

}  // namespace tensometer
