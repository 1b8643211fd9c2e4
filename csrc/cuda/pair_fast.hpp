// Whole blocks of a pair of aligned tensors by one warp, where nothing needs care. A thread loads 16 bytes of either tensor at
// a time; they change hands in shared memory, so that thread k goes on with lane k of the difference: that are lanes k, k + 32,
// k + 64 and k + 96 of the pair.
#pragma once

#include "cuda/fast.hpp"
#include "cuda/pair_careful.hpp"

namespace tensometer::cuda {

// What a thread has summed of its lanes. sum: old * new, or difference * last of an update, which needs no `fresh`: squares of
// the new elements.
template <bool updates>
struct PairTally {
  double sum[row_terms] = {}, old[row_terms] = {}, fresh[row_terms] = {};
  double wide[3] = {};
  float part[3] = {};
  float low = static_cast<float>(infinity), high = -low;
  std::uint32_t counts = 0;  // zeros, and 2^16 times negatives
};

// A row of the difference as block.hpp has it.
template <bool updates>
TENSOMETER_DEVICE void add_difference(const float (&v)[row_terms], float pivot, PairTally<updates>& t) {
  float d[row_terms];
#pragma unroll
  for (unsigned term = 0; term < row_terms; ++term) {
    t.low = v[term] < t.low ? v[term] : t.low;
    t.high = v[term] > t.high ? v[term] : t.high;
    t.counts += (v[term] == 0 ? 1u : 0u) + (v[term] < 0 ? 1u << 16 : 0u);
    d[term] = v[term] - pivot;
  }
  t.part[0] += (d[0] + d[1]) + (d[2] + d[3]);
  t.part[1] += (d[0] * d[0] + d[1] * d[1]) + (d[2] * d[2] + d[3] * d[3]);
  t.part[2] += (std::fabs(v[0]) + std::fabs(v[1])) + (std::fabs(v[2]) + std::fabs(v[3]));
}

// Where in shared memory the difference is counted. All but the weight is known without registers.
struct PairCounting {
  const PairShared& shared;
  std::uint32_t weight;  // 0: not at all

  TENSOMETER_DEVICE void add(float difference) const {
    if (weight == 0) return;
    const std::uint32_t bin = truncated_pattern(difference) >> (23u - shared.pair.tensors[0].resolution);
    atomicAdd(counters_behind(shared) + bin, weight);
  }
};

// A row: x and y are this thread's elements of the row, 32 apart; so are those of `last`.
template <bool updates>
TENSOMETER_DEVICE void add_pairs(const float* x, const float* y, float* last, float pivot, const PairCounting& counting,
                                 PairTally<updates>& t) {
  float difference[row_terms];
#pragma unroll
  for (unsigned term = 0; term < row_terms; ++term) {
    const float a = x[term * block_lanes], b = y[term * block_lanes], d = b - a;
    difference[term] = d;
    const auto wide_a = static_cast<double>(a);
    t.old[term] += wide_a * wide_a;
    if constexpr (updates) {
      t.sum[term] += static_cast<double>(d) * static_cast<double>(last[term * block_lanes]);
      last[term * block_lanes] = d;
    } else {
      const auto wide_b = static_cast<double>(b);
      t.sum[term] += wide_a * wide_b;
      t.fresh[term] += wide_b * wide_b;
    }
    counting.add(d);
  }
  add_difference(difference, pivot, t);
}

template <class T>
TENSOMETER_DEVICE void widen_words(const unsigned char* from, unsigned thread, float* to) {
  constexpr unsigned elements = Pack<T>::elements;
  const Words words = load_words(from + thread * sizeof(Words));
#pragma unroll
  for (unsigned i = 0; i < elements; ++i) to[thread * elements + i] = widen(element_of<T>(words, i));
}

// What a warp reads of a tensor by 16 bytes a thread, in lanes: one row or two. The only place that knows types.
TENSOMETER_DEVICE void stage(DType dtype, const unsigned char* from, unsigned thread, float* to) {
  if (dtype == DType::k_float32) {
    reinterpret_cast<Words*>(to)[thread] = load_words(from + thread * sizeof(Words));
  } else if (dtype == DType::k_bfloat16) {
    widen_words<bfloat16>(from, thread, to);
  } else {
    widen_words<float16>(from, thread, to);
  }
}

// A row or two of both tensors from an element on.
TENSOMETER_DEVICE void stage_both(PairShared& shared, std::uint64_t from, unsigned thread, PairExchange& exchange) {
  const auto dtype = static_cast<DType>(shared.pair.tensors[0].dtype);
  const std::uint64_t at = from * (dtype == DType::k_float32 ? 4 : 2);
  __syncwarp(whole_warp);
  stage(dtype, static_cast<const unsigned char*>(shared.pair.tensors[0].data) + at, thread, exchange.lanes[0]);
  stage(dtype, static_cast<const unsigned char*>(shared.pair.tensors[1].data) + at, thread, exchange.lanes[1]);
  __syncwarp(whole_warp);
}

// The pivot of a block of differences whose first row is staged.
TENSOMETER_DEVICE float pair_pivot(const PairExchange& exchange, unsigned thread) {
  double value[row_terms];
#pragma unroll
  for (unsigned term = 0; term < row_terms; ++term) {
    const unsigned i = term * block_lanes + thread;
    value[term] = static_cast<double>(exchange.lanes[1][i] - exchange.lanes[0][i]);
  }
  const double first = __shfl_sync(whole_warp, value[0], 0);
  const double sum = fold_warp((value[0] + value[2]) + (value[1] + value[3]));
  const double size =
      fold_warp((std::fabs(value[0]) + std::fabs(value[2])) + (std::fabs(value[1]) + std::fabs(value[3])));
  return static_cast<float>(round_pivot(sum / row_size, size / row_size, first));
}

template <bool updates>
TENSOMETER_DEVICE void tally_block(PairShared& shared, std::uint32_t b, float pivot, const PairCounting& counting,
                                   unsigned thread, PairTally<updates>& t) {
  PairExchange& exchange = shared.exchange[threadIdx.x / 32];
  float* last = nullptr;
  if constexpr (updates) last = static_cast<float*>(shared.pair.last) + PairBlock{shared, b}.first() + thread;
#pragma unroll 1
  for (unsigned row = 0; row < block_size / row_size; ++row) {
    const bool single = static_cast<DType>(shared.pair.tensors[0].dtype) == DType::k_float32;
    const unsigned staged = single ? 0 : row % 2;
    if (staged == 0) stage_both(shared, PairBlock{shared, b}.first() + row * row_size, thread, exchange);
    const float* x = exchange.lanes[0] + staged * row_size + thread;
    add_pairs<updates>(x, x + 2 * row_size, last, pivot, counting, t);
    if constexpr (updates) last += row_size;
    if (row % lane_rows != lane_rows - 1) continue;
#pragma unroll
    for (unsigned k = 0; k < 3; ++k) {
      t.wide[k] += static_cast<double>(t.part[k]);
      t.part[k] = 0;
    }
  }
}

TENSOMETER_DEVICE double fold_pairs(const double (&lane)[row_terms]) {
  return fold_warp((lane[0] + lane[2]) + (lane[1] + lane[3]));
}

// Of a whole block of the item. False if it needs care after all; then of an update the product with the last
// one, which is now in place, is good all the same, as is what was counted.
template <bool updates>
TENSOMETER_DEVICE bool fast_pair(PairShared& shared, std::uint32_t b, std::uint32_t weight, unsigned thread) {
  PairExchange& exchange = shared.exchange[threadIdx.x / 32];
  stage_both(shared, PairBlock{shared, b}.first(), thread, exchange);
  const float pivot = pair_pivot(exchange, thread);
  PairTally<updates> t;
  tally_block<updates>(shared, b, pivot, {shared, weight}, thread, t);
  const double sum = fold_pairs(t.sum), old_squares = fold_pairs(t.old), fresh = updates ? 0 : fold_pairs(t.fresh);
  const double moments[3] = {fold_warp(t.wide[0]), fold_warp(t.wide[1]), fold_warp(t.wide[2])};
  const float low = lowest_of_warp(t.low), high = highest_of_warp(t.high);
  const std::uint32_t zeros = add_warp(t.counts & 0xffffu), negatives = add_warp(t.counts >> 16);
  if (thread == 0) {
    PairSlot& slot = shared.blocks[b];
    BlockSums sums;
    sums.count = block_size, sums.zeros = zeros, sums.negatives = negatives;
    sums.min = static_cast<double>(low) + 0.0, sums.max = static_cast<double>(high) + 0.0;
    sums.pivot = static_cast<double>(pivot);
    sums.sum = moments[0], sums.squares = moments[1], sums.magnitudes = moments[2];
    slot.difference.raw.sums = sums;
    // Where every difference is finite, equal pairs are those without one.
    slot.totals = {zeros, 0, updates ? 0 : sum, old_squares, fresh, 0, 0};
    slot.along_last = updates ? sum : 0;
  }
  const double least = std::fabs(static_cast<double>(low)), most = std::fabs(static_cast<double>(high));
  return moments[2] < infinity && is_finite(sum) && block_exponent<float>(least < most ? most : least) == 0;
}

}  // namespace tensometer::cuda
