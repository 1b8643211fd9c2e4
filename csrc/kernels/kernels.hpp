// What one instruction set offers. Each kernel file, compiled for it, exports one of these functions and nothing else.
#pragma once

#include <cstdint>

#include "block.hpp"
#include "dtype.hpp"

namespace tensometer {

// Sums of one block: `count` elements (0 to 4096) of the table's type, at any alignment. Equal to reference_block.
using BlockKernel = void (*)(const void* data, std::uint32_t count, BlockSums& sums);

// Adds a block's elements, each `weight` times, to two tables of 2^(9 + resolution) counters each, one behind the other, indexed by the top
// bits of the float32 pattern. What a bin holds is the sum of both.
using HistogramKernel = void (*)(const void* data, std::uint32_t count, unsigned resolution, std::uint32_t weight,
                                 std::uint32_t* table);

// Pair statistics of one block, over pairs in which both elements are finite; the sums are scaled by 2^-(exponents) and run
// in float64 lanes, pair i in lane i % 128, which fold in one tree.
inline constexpr unsigned pair_lanes = 128;
struct PairSums {
  std::uint32_t equal = 0, nonfinite = 0;  // nonfinite: not equal, and new - old is NaN or infinite
  double dot = 0, old_squares = 0, new_squares = 0;
  int old_exponent = 0, new_exponent = 0;
};

// Both blocks widened to lanes; new - old is written to `difference` (same lane type, `count` elements).
template <class Lane>
using PairKernel = void (*)(const Lane* old_lanes, const Lane* new_lanes, std::uint32_t count, Lane* difference,
                            PairSums& sums);

// The same of an update: of the sums only old_squares. Returns the sum of products of `last` and the difference, in such lanes
// too; it is not finite if any product is not.
template <class Lane>
using UpdateKernel = double (*)(const Lane* old_lanes, const Lane* new_lanes, const Lane* last, std::uint32_t count,
                                Lane* difference, PairSums& sums);

// Widens a block to its lane type: float or double, as dtype_rows says.
using WidenKernel = void (*)(const void* data, std::uint32_t count, void* lanes);

// Counts elements of a block into bins: bin i holds edges[i] <= x < edges[i + 1], the last one its upper edge too. What is
// in no bin counts as in bin `count`. Either there are four tables of count + 1 counters, one behind the other, and a bin
// holds the sum over them; or, for float lanes and up to 64 bins, two tables for the bins of two elements, a and b, at
// a + pair_pitch * b.
inline constexpr std::uint32_t pair_pitch = 65, bin_pairs = pair_pitch * pair_pitch;
struct UniformBins {
  const double* edges;  // count + 1, ascending
  std::uint32_t count;
  bool pairs, all_inside;  // all_inside: no element is NaN or outside the edges
  double per_unit;         // count / (last - first)
  double margin;           // a position farther than this from a whole number is in the bin that its whole part says
};
template <class Lane>
using UniformKernel = void (*)(const Lane* lanes, std::uint32_t count, const UniformBins& bins, std::uint32_t* tables);

// Null where a type has no lanes of its own (one-byte and complex types).
struct BlockKernels {
  BlockKernel sums[dtype_count];
  WidenKernel widen[dtype_count];
};
struct HistogramKernels {
  HistogramKernel count[dtype_count];
};
struct PairKernels {
  PairKernel<float> f32;
  PairKernel<double> f64;
  UpdateKernel<float> update_f32;
  UpdateKernel<double> update_f64;
};
struct UniformKernels {
  UniformKernel<float> f32;
  UniformKernel<double> f64;
};

#define TENSOMETER_CONCAT_(a, b) a##b
#define TENSOMETER_CONCAT(a, b) TENSOMETER_CONCAT_(a, b)

// Fills the kernel columns of a type table: X(name, storage, lanes) -> entry for f32 and f64 lanes, null otherwise.
#define TENSOMETER_ENTRY_f32(entry) entry
#define TENSOMETER_ENTRY_f64(entry) entry
#define TENSOMETER_ENTRY_table(entry) nullptr
#define TENSOMETER_ENTRY_magnitude(entry) nullptr

}  // namespace tensometer
