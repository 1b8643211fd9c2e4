// A tensor's records become one: the fixed merge of the contract, and its counters become bins.
#pragma once

#include "cuda/device.hpp"
#include "cuda/shared.hpp"

namespace tensometer::cuda {

// Folds records of one level after another: each the first of up to 64 of the level below, in place.
template <class Record>
TENSOMETER_DEVICE void fold_records(Record* records, std::uint64_t count) {
  for (std::uint64_t step = 1; step < count; step *= fold_width) {
    for (std::uint64_t head = threadIdx.x * step * fold_width; head < count;
         head += finish_threads * step * fold_width) {
      Record whole = records[head];
      for (std::uint64_t k = 1; k < fold_width && head + k * step < count; ++k) merge(whole, records[head + k * step]);
      records[head] = whole;
    }
    __syncthreads();
  }
}

template <class Record>
TENSOMETER_DEVICE void merge_records(const Tensor& tensor, Record* records) {
  const std::uint64_t blocks = (tensor.count + block_size - 1) / block_size;
  std::uint64_t count = blocks;
  if (tensor.grouped != 0) {
    const std::uint64_t groups = blocks / fold_width, rest = blocks % fold_width;
    if (threadIdx.x == 0) {
      for (std::uint64_t k = 1; k < rest; ++k) merge(records[groups], records[groups + k]);
    }
    __syncthreads();
    count = groups + (rest != 0 ? 1 : 0);
  }
  fold_records(records, count);
}

// The counters that are not zero, ascending, and zeros in their place.
template <class Result>
TENSOMETER_DEVICE void take_bins(unsigned long long* counters, std::uint32_t size, const OutputOf<Result>& output,
                                 Result& result, FinishShared& shared) {
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
    shared.first = atomicAdd(reinterpret_cast<unsigned long long*>(output.used), static_cast<unsigned long long>(all));
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
