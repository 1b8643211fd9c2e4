// A tensor's records become one: the fixed merge of the contract.
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

}  // namespace tensometer::cuda
