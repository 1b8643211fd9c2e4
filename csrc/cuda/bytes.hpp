// One-byte types: every statistic follows of how often each byte is there.
#pragma once

#include "cuda/count.hpp"
#include "cuda/packed.hpp"

namespace tensometer::cuda {

// All blocks of an item by all its threads.
TENSOMETER_DEVICE void count_bytes(const Tensor& tensor, const Item& item, std::uint32_t* counters) {
  const std::uint64_t first = item.first_block * block_size, left = tensor.count - first;
  const std::uint64_t most = std::uint64_t{item.blocks} * block_size, count = left < most ? left : most;
  const Elements elements(tensor, first);
  const unsigned char* data = elements.data + first;
  std::uint64_t whole = 0;
  if (elements.dense() && reinterpret_cast<std::uintptr_t>(data) % sizeof(Words) == 0) {
    whole = count / sizeof(Words);
    for (std::uint64_t i = threadIdx.x; i < whole; i += reduce_threads) {
      const Words words = load_words(data + i * sizeof(Words));
#pragma unroll
      for (const std::uint32_t word : words.word) {
        atomicAdd(counters + byte_of<0>(word), 1u);
        atomicAdd(counters + byte_of<1>(word), 1u);
        atomicAdd(counters + byte_of<2>(word), 1u);
        atomicAdd(counters + byte_of<3>(word), 1u);
      }
    }
  }
  for (std::uint64_t i = whole * sizeof(Words) + threadIdx.x; i < count; i += reduce_threads) {
    atomicAdd(counters + *elements.at(i), 1u);
  }
}

}  // namespace tensometer::cuda
