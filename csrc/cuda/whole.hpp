// An item's whole blocks by the fast way, whatever their type: what a warp does together before and after the hot loop.
#pragma once

#include "cuda/elements.hpp"
#include "cuda/fast.hpp"

namespace tensometer::cuda {

// This thread's terms of the first row of a block.
template <class T>
TENSOMETER_DEVICE void read_terms(const unsigned char* block, unsigned thread, double (&value)[row_terms]) {
#pragma unroll
  for (unsigned term = 0; term < row_terms; ++term) {
    value[term] = static_cast<double>(widen_fast(load<T>(block + (term * block_lanes + thread) * sizeof(T))));
  }
}

TENSOMETER_DEVICE void read_terms(DType dtype, const unsigned char* block, unsigned thread,
                                  double (&value)[row_terms]) {
  switch (dtype) {
  case DType::k_float32:
    read_terms<float>(block, thread, value);
    break;
  case DType::k_bfloat16:
    read_terms<bfloat16>(block, thread, value);
    break;
  case DType::k_float16:
    read_terms<float16>(block, thread, value);
    break;
  default:
    read_terms<double>(block, thread, value);
  }
}

// The hot loop over the blocks in work.
TENSOMETER_DEVICE void add_blocks(Shared& shared, Seen& seen) {
  switch (static_cast<DType>(shared.tensor.dtype)) {
  case DType::k_float32:
    add_blocks<float>(shared, seen);
    break;
  case DType::k_bfloat16:
    add_blocks<bfloat16>(shared, seen);
    break;
  case DType::k_float16:
    add_blocks<float16>(shared, seen);
    break;
  default:
    add_blocks<double>(shared, seen);
  }
}

// What a team's threads saw of their block, at the first of them.
TENSOMETER_DEVICE void join_team(Seen& seen, bool whole_team) {
#pragma unroll 1
  for (unsigned width = whole_team ? 16 : 8; width > 0; width /= 2) {
    seen.low = lower(seen.low, __shfl_xor_sync(whole_warp, seen.low, width));
    seen.high = higher(seen.high, __shfl_xor_sync(whole_warp, seen.high, width));
    seen.zeros += __shfl_xor_sync(whole_warp, seen.zeros, width);
    seen.negatives += __shfl_xor_sync(whole_warp, seen.negatives, width);
  }
}

// What is known of a block but for its sums over lanes.
TENSOMETER_DEVICE void write_seen(const Seen& seen, double pivot, BlockSums& sums) {
  sums.count = block_size;
  sums.zeros = seen.zeros, sums.negatives = seen.negatives;
  sums.nan = sums.posinf = sums.neginf = 0;
  // + 0.0: a zero extreme is +0.
  sums.min = seen.low + 0.0, sums.max = seen.high + 0.0;
  sums.pivot = pivot;
  sums.exponent = 0;
}

// Whether a block needs care after all: something is not finite, or too large or too small for its squares. Then its sums are
// worth nothing, though it is counted. Where the magnitudes' sum is too large for a block without care, extremes of packed
// halves may have missed the largest.
TENSOMETER_DEVICE bool needs_care(const BlockSums& sums, bool narrow) {
  const double low = std::fabs(sums.min), high = std::fabs(sums.max), largest = low < high ? high : low;
  const double most = (narrow ? largest_unscaled<float> : largest_unscaled<double>)*(2 * block_size);
  const int exponent = narrow ? block_exponent<float>(largest) : block_exponent<double>(largest);
  return exponent != 0 || !(sums.magnitudes < most);
}

// Whether there is a fast way for a tensor. Whole numbers of more than a byte are seldom large: they have none, and the image
// stays small.
TENSOMETER_DEVICE bool has_fast_way(const Tensor& tensor) {
  const auto dtype = static_cast<DType>(tensor.dtype);
  const bool type =
      dtype == DType::k_float32 || dtype == DType::k_bfloat16 || dtype == DType::k_float16 || dtype == DType::k_float64;
  return type && tensor.dims == 0 && reinterpret_cast<std::uintptr_t>(tensor.data) % sizeof(Words) == 0;
}

// How many blocks of the item, from its first on, are reduced by the fast way.
TENSOMETER_DEVICE std::uint32_t fast_count(const Shared& shared) {
  if (!has_fast_way(shared.tensor)) return 0;
  const std::uint64_t left = shared.tensor.count / block_size - shared.item.first_block;
  return static_cast<std::uint32_t>(left < shared.item.blocks ? left : shared.item.blocks);
}

TENSOMETER_DEVICE bool takes_two(const Shared& shared) {
  return item_size_of(static_cast<DType>(shared.tensor.dtype)) == 2;
}

// Puts down what the hot loop has to know of the blocks in work: thread k of block k.
TENSOMETER_DEVICE void begin_work(Shared& shared) {
  const unsigned index = thread_index(), thread = index % 32;
  Work& work = shared.work[index / 32];
  const auto dtype = static_cast<DType>(shared.tensor.dtype);
#pragma unroll 1
  for (unsigned k = 0; k < work.wanted; ++k) {
    double value[row_terms];
    read_terms(dtype, shared.data + (work.block + k) * block_size * item_size_of(dtype), thread, value);
    work.lanes[2 * k][thread] = (value[0] + value[2]) + (value[1] + value[3]);
    work.lanes[2 * k + 1][thread] =
        (std::fabs(value[0]) + std::fabs(value[2])) + (std::fabs(value[1]) + std::fabs(value[3]));
    if (thread == 0) work.pivot[k] = value[0];
  }
  fold_lanes(work.lanes, 2 * work.wanted, thread);
  if (thread < work.wanted) {
    const double sum = work.lanes[2 * thread][0], size = work.lanes[2 * thread + 1][0];
    const double pivot = round_pivot(sum / row_size, size / row_size, work.pivot[thread]);
    work.pivot[thread] = dtype == DType::k_float64 ? pivot : static_cast<double>(static_cast<float>(pivot));
    const auto mode = static_cast<HistogramMode>(shared.tensor.histogram);
    const std::uint64_t block = shared.tensor.first_block + shared.item.first_block + work.block + thread;
    work.weight[thread] = counts_in_shared(shared.tensor) ? block_weight(mode, block) : 0;
  }
  __syncwarp(whole_warp);
}

// Leaves the sums of the blocks in work, and marks blocks that need care.
TENSOMETER_DEVICE void end_work(Shared& shared, Seen& seen) {
  const unsigned index = thread_index(), thread = index % 32;
  Work& work = shared.work[index / 32];
  const bool two = takes_two(shared), narrow = static_cast<DType>(shared.tensor.dtype) != DType::k_float64;
  const unsigned blocks = two ? 2 : 1, team = two ? thread / 16 : 0;
  fold_lanes(work.lanes, 3 * blocks, thread);
  join_team(seen, !two);
  if (team >= work.wanted || thread % (two ? 16 : 32) != 0) return;
  BlockSums& sums = shared.blocks[work.block + team].raw.sums;
  write_seen(seen, work.pivot[team], sums);
  sums.sum = work.lanes[team][0], sums.squares = work.lanes[blocks + team][0];
  sums.magnitudes = work.lanes[2 * blocks + team][0];
  shared.careful[work.block + team] = needs_care(sums, narrow);
}

// Makes some blocks from `b` on a warp's work. Whether there are any.
TENSOMETER_DEVICE bool set_work(Shared& shared, std::uint32_t b) {
  const unsigned index = thread_index();
  Work& work = shared.work[index / 32];
  __syncwarp(whole_warp);
  if (index % 32 == 0) {
    const std::uint32_t whole = fast_count(shared), left = b < whole ? whole - b : 0, most = takes_two(shared) ? 2 : 1;
    work.block = b;
    work.wanted = left < most ? left : most;
  }
  __syncwarp(whole_warp);
  return work.wanted != 0;
}

TENSOMETER_DEVICE bool set_next_work(Shared& shared) {
  const std::uint32_t b = shared.work[thread_index() / 32].block;
  return set_work(shared, b + (takes_two(shared) ? 2 * reduce_warps : reduce_warps));
}

// Reduces the whole blocks of an item that have a fast way, and counts them if counters are shared. Leaves their sums, and marks
// those that need care.
TENSOMETER_DEVICE void reduce_whole(Shared& shared) {
  const unsigned warp = thread_index() / 32;
  bool more = set_work(shared, takes_two(shared) ? 2 * warp : warp);
#pragma unroll 1
  for (; more; more = set_next_work(shared)) {
    begin_work(shared);
    Seen seen;
    add_blocks(shared, seen);
    end_work(shared, seen);
  }
}

}  // namespace tensometer::cuda
