// The sums of any block by one warp: short ones, elements that lie apart, values that are not finite or need scaling. Thread k
// is lane k of the contract (block.hpp). Elements are read at few places, each of which is code for every type.
#pragma once

#include "cuda/elements.hpp"
#include "cuda/warp.hpp"

namespace tensometer::cuda {

// Whether the lanes of elements are float32 ones.
TENSOMETER_DEVICE bool is_narrow(const Elements& elements) { return lanes_of(elements.dtype) == Lanes::f32; }

// A block in lanes. narrow: float32 ones. Source: what read() takes.
template <class Source>
struct CarefulBlock {
  const Source& elements;
  std::uint32_t count;
  bool narrow;
  double (*lanes)[block_lanes];  // arrays to fold
  double (*row)[block_lanes];    // memory for a row, of which each thread uses what is its own
  unsigned thread;

  // This thread's terms of the row that begins at an element, those that are not there as NaN.
  TENSOMETER_DEVICE void read_row(std::uint32_t first) const {
#pragma unroll 1
    for (unsigned term = 0; term < row_terms; ++term) {
      const std::uint32_t i = first + term * block_lanes + thread;
      row[term][thread] = i < count ? read(elements, i) : nan_value;
    }
  }
};

// Term of a row in the lane type, scaled. Whether it is finite; if not it is 0.
template <class Lane, class Source>
TENSOMETER_DEVICE bool take(const CarefulBlock<Source>& block, unsigned term, Lane scale, Lane& value) {
  const auto x = static_cast<Lane>(block.row[term][block.thread]);
  const bool finite = is_finite(x);
  value = finite ? x * scale : Lane(0);
  return finite;
}

template <class Source>
TENSOMETER_DEVICE double careful_pivot(const CarefulBlock<Source>& block, double scale) {
  double value[row_terms];
  std::uint32_t finite = 0;
  block.read_row(0);
#pragma unroll
  for (unsigned term = 0; term < row_terms; ++term) {
    if (block.narrow) {
      float narrow;
      finite += take(block, term, static_cast<float>(scale), narrow);
      value[term] = static_cast<double>(narrow);
    } else {
      finite += take(block, term, scale, value[term]);
    }
  }
  finite = add_warp(finite);
  block.lanes[0][block.thread] = (value[0] + value[2]) + (value[1] + value[3]);
  block.lanes[1][block.thread] =
      (std::fabs(value[0]) + std::fabs(value[2])) + (std::fabs(value[1]) + std::fabs(value[3]));
  fold_lanes(block.lanes, 2, block.thread);
  const double sum = block.lanes[0][0], size = block.lanes[1][0];
  double first = block.row[0][0];  // if it is not finite, as it is
  first = block.narrow ? static_cast<double>(static_cast<float>(first) * static_cast<float>(scale)) : first * scale;
  __syncwarp(whole_warp);
  if (finite == 0) return 0;
  const double pivot = round_pivot(sum / finite, size / finite, first);
  return block.narrow ? static_cast<double>(static_cast<float>(pivot)) : pivot;
}

template <class Lane>
struct LaneTally {
  Lane sum = 0, squares = 0, magnitudes = 0;

  template <class Source>
  TENSOMETER_DEVICE void add_row(const CarefulBlock<Source>& block, Lane pivot, Lane scale) {
    Lane d[row_terms], square[row_terms], size[row_terms];
#pragma unroll
    for (unsigned term = 0; term < row_terms; ++term) {
      Lane value;
      d[term] = take(block, term, scale, value) ? value - pivot : Lane(0);
      square[term] = d[term] * d[term];
      size[term] = std::fabs(value);
    }
    sum += (d[0] + d[1]) + (d[2] + d[3]);
    squares += (square[0] + square[1]) + (square[2] + square[3]);
    magnitudes += (size[0] + size[1]) + (size[2] + size[3]);
  }
};

// The sums of a block, which the first thread writes.
template <class Source>
TENSOMETER_DEVICE void sum_lanes(const CarefulBlock<Source>& block, BlockSums& sums) {
  for (unsigned k = 0; k < 3; ++k) block.lanes[k][block.thread] = 0;
#pragma unroll 1
  for (std::uint32_t first = 0; first < block.count; first += lane_rows * row_size) {
    LaneTally<double> tally;  // of float32 lanes too, whose values it has exactly
#pragma unroll 1
    for (unsigned row = 0; row < lane_rows && first + row * row_size < block.count; ++row) {
      block.read_row(first + row * row_size);
      TENSOMETER_IN_TURN();
      const double pivot = sums.pivot, scale = power_of_two(-sums.exponent);
      if (block.narrow) {
        LaneTally<float> narrow = {static_cast<float>(tally.sum), static_cast<float>(tally.squares),
                                   static_cast<float>(tally.magnitudes)};
        narrow.add_row(block, static_cast<float>(pivot), static_cast<float>(scale));
        tally = {narrow.sum, narrow.squares, narrow.magnitudes};
      } else {
        tally.add_row(block, pivot, scale);
      }
    }
    block.lanes[0][block.thread] += tally.sum;
    block.lanes[1][block.thread] += tally.squares;
    block.lanes[2][block.thread] += tally.magnitudes;
  }
  fold_lanes(block.lanes, 3, block.thread);
  if (block.thread != 0) return;
  sums.sum = block.lanes[0][0], sums.squares = block.lanes[1][0], sums.magnitudes = block.lanes[2][0];
}

// What depends on no order, which the first thread writes. Whether any element is finite, and the largest magnitude.
template <class Source>
TENSOMETER_DEVICE bool count_lanes(const CarefulBlock<Source>& block, BlockSums& sums, double& largest) {
  BlockSums mine;
#pragma unroll 1
  for (std::uint32_t i = block.thread; i < block.count; i += block_lanes) count_value(read(block.elements, i), mine);
  mine.count = block.count;
  mine.zeros = add_warp(mine.zeros), mine.negatives = add_warp(mine.negatives);
  mine.nan = add_warp(mine.nan), mine.posinf = add_warp(mine.posinf), mine.neginf = add_warp(mine.neginf);
  // + 0.0: a zero extreme is +0.
  mine.min = lowest_of_warp(mine.min) + 0.0, mine.max = highest_of_warp(mine.max) + 0.0;
  if (block.thread == 0) sums = mine;
  const double low = std::fabs(mine.min), high = std::fabs(mine.max);
  largest = low < high ? high : low;
  return mine.nan + mine.posinf + mine.neginf != block.count;
}

// Of `count` elements, 1 to 4096; `lanes` has room for eight arrays. A block of one row is reduced in float64. The first
// thread writes.
template <class Source>
TENSOMETER_DEVICE void careful_block(const Source& elements, std::uint32_t count, double (*lanes)[block_lanes],
                                     unsigned thread, BlockSums& sums) {
  const bool narrow = is_narrow(elements) && count > row_size;
  const CarefulBlock<Source> block{elements, count, narrow, lanes, lanes + 4, thread};
  double largest;
  if (!count_lanes(block, sums, largest)) return;
  const int exponent = narrow ? block_exponent<float>(largest) : block_exponent<double>(largest);
  const double scale = power_of_two(-exponent);
  const double pivot = careful_pivot(block, scale);
  if (thread == 0) sums.exponent = exponent, sums.pivot = pivot;
  __syncwarp(whole_warp);
  sum_lanes(block, sums);
}

}  // namespace tensometer::cuda
