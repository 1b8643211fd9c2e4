// Counting a tensor into bins between given edges, as csrc/uniform.hpp says, by comparison with the edges.
#pragma once

#include "cuda/value.hpp"

namespace tensometer::cuda {

// The bin of a value that lies between the first edge and the last: where bins of one width would have it, if the edges agree,
// else by bisection.
TENSOMETER_DEVICE std::uint32_t uniform_bin(double x, const Uniform& table) {
  const double* edges = table.edges;
  const std::uint32_t last = table.bins - 1;
  const double position = (x - edges[0]) * table.per_unit;
  const std::uint32_t guess = position < last ? static_cast<std::uint32_t>(position) : last;
  if (x >= edges[guess] && (guess == last || x < edges[guess + 1])) return guess;
  std::uint32_t low = 0, high = last;
#pragma unroll 1
  while (low < high) {
    const std::uint32_t middle = low + (high - low + 1) / 2;
    if (x >= edges[middle]) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// The blocks of a thread block: every `stride`th. counters: in shared memory; null if the bins are too many.
TENSOMETER_DEVICE void count_uniform(const Uniform& table, std::uint32_t* counters) {
  const double first = table.edges[0], last = table.edges[table.bins];
#pragma unroll 1
  for (std::uint64_t block = blockIdx.x; block * block_size < table.tensor.count; block += table.stride) {
    const std::uint64_t end = block * block_size + block_size;
    const std::uint64_t stop = end < table.tensor.count ? end : table.tensor.count;
#pragma unroll 1
    for (std::uint64_t i = block * block_size + threadIdx.x; i < stop; i += reduce_threads) {
      const double x = value_of(table.tensor, i);
      if (!(x >= first && x <= last)) continue;
      const std::uint32_t bin = uniform_bin(x, table);
      if (counters != nullptr) {
        atomicAdd(counters + bin, 1u);
      } else {
        atomicAdd(table.counts + bin, 1ull);
      }
    }
  }
}

}  // namespace tensometer::cuda
