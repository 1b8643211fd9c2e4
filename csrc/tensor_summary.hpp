// The finished value of one tensor: its Summary and what goes with it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "dtype.hpp"
#include "histogram.hpp"
#include "kept.hpp"
#include "summary.hpp"

namespace tensometer {

struct TensorSummary {
  DType dtype = DType::k_float32;
  KeptVector<std::int64_t> shape;
  Summary summary;
  std::optional<LogHistogram> histogram;
  std::optional<std::uint64_t> fingerprint;

  bool operator==(const TensorSummary&) const = default;
};

// Adds a block to what is known of the elements that a LogCounter counted.
void count(const Summary& s, std::uint32_t weight, Counted& counted);

// Both as one tensor: shapes that agree but for the first dimension join along it, others are flattened; without a
// fingerprint, and with a histogram only if both have one. Throws std::invalid_argument if the dtypes differ.
TensorSummary merge(const TensorSummary& a, const TensorSummary& b);

// The next three need a histogram and throw std::invalid_argument without one, or for an unknown format. Of an empty
// tensor they are NaN, 0 and 0.

// The histogram's quantile, within [min, max]; exactly min at 0 and max at 1.
double quantile(const TensorSummary& s, double q);
// Non-zero elements with magnitude below half the format's smallest sub-normal, which rounding turns into zero. (Of exactly
// half, which ties-to-even makes zero too, an element shares the bin of what survives and is not counted.) For bfloat16 and
// float32, whose limits lie inside the histogram's finest bin, the number is known only if it is none or all; else 0.
std::uint64_t underflow(const TensorSummary& s, std::string_view format);
// The other non-zero elements with magnitude below the format's smallest normal value.
std::uint64_t subnormal(const TensorSummary& s, std::string_view format);
// Finite elements too large for the format, counted from the first bin on that lies wholly beyond; never 0 if there is one,
// and all if the extremes tell so. Exact where rounding leaves the format at a bin's edge (the 8-bit formats from resolution
// 4 on; of float8_e4m3fn, elements of exactly 464, which round to 448, are counted with those above), else a lower bound.
std::uint64_t overflow(const TensorSummary& s, std::string_view format);

// The format's largest value divided by the largest magnitude; infinite for all zeros, NaN if nothing is finite. Throws
// std::invalid_argument for an unknown format.
double headroom(const TensorSummary& s, std::string_view format);

}  // namespace tensometer
