// Counting elements into the logarithmic histogram, or the bytes of one-byte types.
#pragma once

#include "cuda/elements.hpp"
#include "pattern.hpp"
#include "sampling.hpp"

namespace tensometer::cuda {

TENSOMETER_DEVICE bool is_bytes(const Tensor& tensor) {
  return lanes_of(static_cast<DType>(tensor.dtype)) == Lanes::table;
}

TENSOMETER_DEVICE bool is_counted(const Tensor& tensor) {
  return is_bytes(tensor) || static_cast<HistogramMode>(tensor.histogram) != HistogramMode::none;
}

// How many counters a tensor has, if it is counted.
TENSOMETER_DEVICE std::uint32_t counter_count(const Tensor& tensor) {
  return static_cast<std::uint32_t>(is_bytes(tensor) ? byte_counters : counters_of(tensor.resolution));
}

TENSOMETER_DEVICE bool counts_in_shared(const Tensor& tensor) {
  return is_bytes(tensor) || (is_counted(tensor) && tensor.resolution <= shared_resolution);
}

// Where a thread block counts: in shared memory, or in the tensor's own table (then `shared` is null).
struct Counters {
  std::uint32_t* shared;
  unsigned long long* table;

  TENSOMETER_DEVICE void add(std::uint32_t index, std::uint32_t weight) const {
    if (shared != nullptr) {
      atomicAdd(shared + index, weight);
    } else {
      atomicAdd(table + index, static_cast<unsigned long long>(weight));
    }
  }
};

TENSOMETER_DEVICE void count_block(const Elements& elements, std::uint32_t count, const Counters& counters,
                                   std::uint32_t weight, unsigned thread) {
  const unsigned shift = 23u - elements.tensor.resolution;
#pragma unroll 1
  for (std::uint32_t i = thread; i < count; i += 32) {
    counters.add(truncated_pattern(read(elements, i)) >> shift, weight);
  }
}

TENSOMETER_DEVICE void clear_counters(std::uint32_t* counters, std::uint32_t size) {
  for (std::uint32_t i = threadIdx.x; i < size; i += reduce_threads) counters[i] = 0;
}

// What was counted in shared memory goes to the tensor's own table. All threads of the block.
TENSOMETER_DEVICE void flush_counters(const std::uint32_t* counters, std::uint32_t size, unsigned long long* table) {
  for (std::uint32_t i = threadIdx.x; i < size; i += reduce_threads) {
    if (counters[i] != 0) atomicAdd(table + i, static_cast<unsigned long long>(counters[i]));
  }
}

}  // namespace tensometer::cuda
