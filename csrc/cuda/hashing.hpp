// The fingerprint of a block by one warp: words add up in any order.
#pragma once

#include "cuda/elements.hpp"
#include "cuda/warp.hpp"
#include "hash.hpp"

namespace tensometer::cuda {

// The word at byte `at` of the elements, of `end` bytes.
TENSOMETER_DEVICE std::uint64_t word_at(const Elements& elements, std::uint32_t at, std::uint32_t end) {
  if (elements.dense() && at + 8 <= end) {
    const unsigned char* p = elements.at(0) + at;
    if (reinterpret_cast<std::uintptr_t>(p) % 8 == 0) return load<std::uint64_t>(p);
  }
  std::uint64_t word = 0;
#pragma unroll 1
  for (std::uint32_t k = at; k < at + 8 && k < end; ++k) {
    word |= std::uint64_t{elements.at(k / elements.item_size)[k % elements.item_size]} << 8 * (k - at);
  }
  return word;
}

// Adds the hash of a block of so many elements to the tensor's. `lanes`: memory for two numbers a thread.
TENSOMETER_DEVICE void hash_block(const Elements& elements, std::uint32_t count, std::uint64_t block, unsigned thread,
                                  std::uint64_t (*lanes)[32], std::uint64_t* hash) {
  const std::uint32_t bytes = count * elements.item_size;
  // Every 32nd word: of one chain all.
  std::uint64_t mine = 0, beside = 0;
#pragma unroll 1
  for (std::uint32_t index = thread; 8 * index < bytes; index += 32) {
    const std::uint64_t word = word_at(elements, 8 * index, bytes);
    mine += mixed_word(word, index);
    beside += word;
  }
  __syncwarp(whole_warp);
  lanes[0][thread] = mine;
  lanes[1][thread ^ 1] = beside;
  __syncwarp(whole_warp);
  if (thread != 0) return;
  std::uint64_t found = begin_hash(bytes, block);
#pragma unroll 1
  for (unsigned chain = 0; chain < hash_chains; ++chain) {
    std::uint64_t state = 0;
#pragma unroll 1
    for (unsigned k = chain; k < 32; k += hash_chains) state += lanes[0][k] + lanes[1][k];
    found = mix(found ^ state);
  }
  atomicAdd(reinterpret_cast<unsigned long long*>(hash), static_cast<unsigned long long>(found));
}

}  // namespace tensometer::cuda
