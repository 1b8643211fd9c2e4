// A tensor's records become one: the fixed merge of the contract, and its counters become bins.
#pragma once

#include "cuda/device.hpp"
#include "cuda/pair_tables.hpp"
#include "cuda/shared.hpp"

namespace tensometer::cuda {

TENSOMETER_DEVICE void merge_in_turn(Summary& a, const Summary& b) {
  merge_moments(a, b);
  TENSOMETER_IN_TURN();
  merge_counts(a, b);
}

// Each record of a run, so many apart, into the first of them, in place. Of pairs one part after the other: both in one loop
// take more registers than there are.
TENSOMETER_DEVICE void fold_run(Summary* first, std::uint32_t step, std::uint32_t count) {
#pragma unroll 1
  for (std::uint32_t k = 1; k < count; ++k) merge_in_turn(*first, first[k * step]);
}

TENSOMETER_DEVICE void fold_run(PairPart* first, std::uint32_t step, std::uint32_t count) {
#pragma unroll 1
  for (std::uint32_t k = 1; k < count; ++k) merge_in_turn(first->summary, first[k * step].summary);
#pragma unroll 1
  for (std::uint32_t k = 1; k < count; ++k) {
    merge(first->totals, first[k * step].totals);
    first->along_last += first[k * step].along_last;
  }
}

// Folds records of one level after another: each the first of up to 64 of the level below. A tensor has
// at most 2^24 records (plan.cpp).
template <class Record>
TENSOMETER_DEVICE void fold_records(Record* records, std::uint32_t count) {
#pragma unroll 1
  for (std::uint32_t step = 1; step < count; step *= fold_width) {
#pragma unroll 1
    for (std::uint32_t head = threadIdx.x * step * fold_width; head < count;
         head += finish_threads * step * fold_width) {
      const std::uint32_t left = (count - head + step - 1) / step;
      fold_run(records + head, step, left < fold_width ? left : fold_width);
    }
    __syncthreads();
  }
}

template <class Record>
TENSOMETER_DEVICE void merge_records(const Tensor& tensor, Record* records) {
  const std::uint64_t blocks = (tensor.count + block_size - 1) / block_size;
  std::uint32_t count = static_cast<std::uint32_t>(blocks);
  if (tensor.grouped != 0) {
    const std::uint32_t groups = static_cast<std::uint32_t>(blocks / fold_width);
    const std::uint32_t rest = static_cast<std::uint32_t>(blocks % fold_width);
    if (threadIdx.x == 0) fold_run(records + groups, 1, rest);
    __syncthreads();
    count = groups + (rest != 0 ? 1 : 0);
  }
  fold_records(records, count);
}

// The counters that are not zero, ascending, and zeros in their place. bytes: whether they are of a one-byte type.
template <class Result>
TENSOMETER_DEVICE void take_bins(unsigned long long* counters, std::uint32_t size, bool bytes,
                                 const OutputOf<Result>& output, Result& result, FinishShared& shared) {
  const std::uint32_t share = size / finish_threads, begin = threadIdx.x * share;
  std::uint32_t found = 0;
  for (std::uint32_t i = begin; i < begin + share; ++i) found += counters[i] != 0;
  shared.found[threadIdx.x] = found;
  __syncthreads();
  std::uint32_t before = 0, all = 0;
  for (unsigned k = 0; k < finish_threads; ++k) {
    before += k < threadIdx.x ? shared.found[k] : 0;
    all += shared.found[k];
  }
  if (threadIdx.x == 0) {
    auto* used = reinterpret_cast<unsigned long long*>(output.used) + (bytes ? 1 : 0);
    shared.first = (bytes ? 0 : output.bytes_room) + atomicAdd(used, static_cast<unsigned long long>(all));
    result.first_bin = shared.first, result.bins = all;
  }
  __syncthreads();
  std::uint64_t at = shared.first + before;
  for (std::uint32_t i = begin; i < begin + share; ++i) {
    if (counters[i] == 0) continue;
    if (at < output.room) output.bins[at] = static_cast<std::uint64_t>(i) << 48 | counters[i];
    counters[i] = 0;
    ++at;
  }
}

}  // namespace tensometer::cuda
