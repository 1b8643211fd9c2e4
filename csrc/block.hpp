// The block contract in scalar words. Every kernel equals this with ==, and the CUDA kernels include it.
//
// A block is up to 4096 elements: 32 rows of 128, a row being four terms for each of 32 virtual lanes: element i of a row is in
// lane i % 32. A lane sums d = x - pivot, d * d and |x| in the lane type (float32 or float64): the four terms of a row are
// added as (a + b) + (c + d), missing ones as zeros, then to the lane, from zero every eight rows. The sums of eight rows
// are added up in float64, and the 32 lanes then fold in one tree.
//
// Terms in fours, and no more than eight of these, because terms are often alike: where all deviations have one size
// (binarised weights), or lie on a grid (float32 far from zero, integers: squares of whole numbers are 0 or 1 modulo 4, and
// ties go to even), every addition to a sum that has outgrown 24 bits rounds the same way. Thirty-two additions one by one
// take up to 5.4e-7 off a variance. Sums of two and of four equal terms are exact, and eight are left: at most 1.9e-7.
//
// The pivot is the mean of the finite elements of the first row, rounded to a multiple of a power of two that is at most an
// eighth of the first element's distance from it, and to the lane type. A pivot with more bits than the elements have would
// make x - pivot round the same way for every element of an octave, which no sum cancels. It is 0 if that mean is less
// than a quarter of the mean magnitude: squares then lose less than a bit to the mean's, and x - 0 rounds nothing.
// Non-finite elements are counted and otherwise skipped. Where squares of the block could leave the lane type's
// range, elements are multiplied by a power of two first. A block of one row is widened to float64 lanes: its sums
// then carry no rounding of the lane type at all, which is what keeps the mean of a tiny tensor exact.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "dtype.hpp"
#include "summary.hpp"

namespace tensometer {

inline constexpr unsigned block_lanes = 32;
inline constexpr unsigned row_terms = 4;
inline constexpr unsigned row_size = block_lanes * row_terms;
inline constexpr unsigned lane_rows = 8;  // that a lane sums before float64 takes over
inline constexpr unsigned block_size = 32 * row_size;

// What a block yields, before it becomes a Summary. The sums are those of elements times 2^-exponent.
struct BlockSums {
  std::uint32_t count = 0, zeros = 0, negatives = 0, nan = 0, posinf = 0, neginf = 0;
  double min = infinity, max = -infinity;
  double pivot = 0, sum = 0, squares = 0, magnitudes = 0;
  int exponent = 0;
};

// The lane type of an element type: float for what widens exactly to it, double otherwise.
template <class T>
using LaneOf = decltype(widen(T{}));

// Range of the largest magnitude for which no scaling is needed. Upper: a sum of d * d, |d| <= 2 * largest, must stay below
// the overflow limit; in float32 lanes that is 32 terms below 2^128, in float64 the whole tensor's, of up to
// 2^61 elements, below 2^1024. Lower: two neighbours of the largest differ by 2^-24
// (2^-53) of it, and the square of that must be a normal number, above 2^-126 (2^-1022): largest^2 > 2^-78 (2^-916).
template <class Lane>
inline constexpr double largest_unscaled = std::is_same_v<Lane, float> ? 0x1p60 : 0x1p480;
template <class Lane>
inline constexpr double smallest_unscaled = std::is_same_v<Lane, float> ? 0x1p-39 : 0x1p-458;

// The exponent e for which elements times 2^-e are safe; 0 where they are safe as they are. The clamp keeps 2^-e a
// normal number of the lane type; the largest magnitude is then still below 4 and, if sub-normal, above 2^-52.
template <class Lane>
TENSOMETER_BOTH static inline int block_exponent(double largest) {
  if (largest == 0 || (largest >= smallest_unscaled<Lane> && largest < largest_unscaled<Lane>)) return 0;
  const int limit = std::numeric_limits<Lane>::max_exponent - 2;
  const int exponent = std::ilogb(largest);
  return exponent > limit ? limit : exponent < -limit ? -limit : exponent;
}

// 2^exponent, which is a normal number.
TENSOMETER_BOTH static inline double power_of_two(int exponent) {
  return std::bit_cast<double>(static_cast<std::uint64_t>(1023 + exponent) << 52);
}

// lane[k] += lane[k + w] for w = count / 2, ..., 2, 1.
template <unsigned count>
static inline double fold_lanes(double (&lane)[count]) {
  for (unsigned width = count / 2; width > 0; width /= 2) {
    for (unsigned k = 0; k < width; ++k) lane[k] += lane[k + width];
  }
  return lane[0];
}

// Of one element, what depends on no order.
TENSOMETER_BOTH static inline void count_value(double value, BlockSums& sums) {
  sums.zeros += value == 0;
  sums.nan += value != value;
  sums.posinf += value == infinity;
  sums.neginf += value == -infinity;
  if (!(std::fabs(value) < infinity)) return;
  sums.negatives += value < 0;
  sums.min = value < sums.min ? value : sums.min;
  sums.max = value > sums.max ? value : sums.max;
}

// Extremes and counts.
template <class Lane>
static inline void count_values(const Lane* x, std::uint32_t count, BlockSums& sums) {
  sums.count = count;
  for (std::uint32_t i = 0; i < count; ++i) count_value(x[i], sums);
  // + 0.0 reports a zero extreme as +0: which of two zeros a minimum returns is not defined.
  sums.min += 0.0;
  sums.max += 0.0;
}

template <class Lane>
TENSOMETER_BOTH static inline bool is_finite(Lane x) {
  return std::fabs(x) <= std::numeric_limits<Lane>::max();
}

// The mean of a row rounded as said above; as it is if the first element is not finite or lies too near to tell.
TENSOMETER_BOTH static inline double round_pivot(double mean, double mean_magnitude, double first) {
  const double size = mean < 0 ? -mean : mean, distance = first > mean ? first - mean : mean - first;
  if (size < mean_magnitude * 0.25) return 0;
  if (!(distance < infinity)) return mean;
  const double step = std::bit_cast<double>(std::bit_cast<std::uint64_t>(distance) & 0x7ff0000000000000ull) * 0.125;
  if (!(size < step * 0x1p50)) return mean;
  const double shift = step * 0x1.8p52;  // adding it leaves no bits below step
  return (mean + shift) - shift;
}

template <class Lane>
static inline Lane row_pivot(const Lane* x, std::uint32_t count, Lane scale) {
  double lane[row_size] = {}, size[row_size] = {};
  unsigned finite = 0;
  for (unsigned k = 0; k < row_size && k < count; ++k) {
    if (!is_finite(x[k])) continue;
    lane[k] = static_cast<double>(x[k] * scale);
    size[k] = std::fabs(lane[k]);
    ++finite;
  }
  if (finite == 0) return Lane(0);
  const double mean = fold_lanes(lane) / finite, mean_magnitude = fold_lanes(size) / finite;
  return static_cast<Lane>(round_pivot(mean, mean_magnitude, static_cast<double>(x[0] * scale)));
}

template <class Lane>
static inline BlockSums reference_lanes(const Lane* x, std::uint32_t count) {
  BlockSums sums;
  count_values(x, count, sums);
  if (sums.nan + sums.posinf + sums.neginf == count) return sums;
  sums.exponent = block_exponent<Lane>(std::fmax(std::fabs(sums.min), std::fabs(sums.max)));
  const Lane scale = static_cast<Lane>(power_of_two(-sums.exponent));
  const Lane pivot = row_pivot(x, count, scale);
  double wide[3][block_lanes] = {};
  for (unsigned k = 0; k < block_lanes; ++k) {
    Lane sum = 0, squares = 0, magnitudes = 0;
    for (std::uint32_t first = 0; first < count; first += row_size) {
      Lane d[row_terms] = {}, square[row_terms] = {}, size[row_terms] = {};
      for (unsigned term = 0; term < row_terms; ++term) {
        const std::uint32_t i = first + term * block_lanes + k;
        if (i >= count || !is_finite(x[i])) continue;
        const Lane value = x[i] * scale;
        d[term] = value - pivot;
        square[term] = d[term] * d[term];
        size[term] = std::fabs(value);
      }
      sum += (d[0] + d[1]) + (d[2] + d[3]);
      squares += (square[0] + square[1]) + (square[2] + square[3]);
      magnitudes += (size[0] + size[1]) + (size[2] + size[3]);
      if (first / row_size % lane_rows != lane_rows - 1 && first + row_size < count) continue;
      wide[0][k] += static_cast<double>(sum);
      wide[1][k] += static_cast<double>(squares);
      wide[2][k] += static_cast<double>(magnitudes);
      sum = squares = magnitudes = 0;
    }
  }
  sums.pivot = pivot;
  sums.sum = fold_lanes(wide[0]), sums.squares = fold_lanes(wide[1]), sums.magnitudes = fold_lanes(wide[2]);
  return sums;
}

// The reference: sums of `count` elements, 0 to 4096. An empty block yields BlockSums{}.
template <class T>
static inline BlockSums reference_block(const T* x, std::uint32_t count) {
  using Lane = LaneOf<T>;
  if (count <= row_size) {
    double wide[row_size];
    for (std::uint32_t i = 0; i < count; ++i) wide[i] = widen(x[i]);
    return reference_lanes(wide, count);
  }
  Lane lanes[block_size];
  for (std::uint32_t i = 0; i < count; ++i) lanes[i] = widen(x[i]);
  return reference_lanes(lanes, count);
}

// A block's sums as a Summary. `wide_exponent` keeps the exponent (float64 data); otherwise the moments of scaled
// float32 lanes are brought back, exactly: float64 holds every square of a float32.
TENSOMETER_BOTH static inline Summary finish_block(const BlockSums& sums, bool wide_exponent) {
  Summary s;
  s.count = sums.count, s.zeros = sums.zeros, s.negatives = sums.negatives;
  s.nan = sums.nan, s.posinf = sums.posinf, s.neginf = sums.neginf;
  s.min = sums.min, s.max = sums.max;
  if (s.finite() == 0) return s;
  const double n = static_cast<double>(s.finite());
  s.mean = sums.pivot + sums.sum / n;
  s.m2 = std::fmax(sums.squares - sums.sum * (sums.sum / n), 0.0);
  s.abs_sum = sums.magnitudes;
  s.exponent = sums.exponent;
  if (s.min == s.max) {  // all equal: known exactly, whatever the division by n did to the pivot
    s.mean = std::ldexp(s.min, -sums.exponent);
    s.m2 = 0;
  }
  if (!wide_exponent && sums.exponent != 0) {
    s.mean = std::ldexp(s.mean, sums.exponent);
    s.m2 = std::ldexp(s.m2, 2 * sums.exponent);
    s.abs_sum = std::ldexp(s.abs_sum, sums.exponent);
    s.exponent = 0;
  }
  return s;
}

}  // namespace tensometer
