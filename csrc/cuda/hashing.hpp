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

// Adds the hash of a block of so many elements to the tensor's.
TENSOMETER_DEVICE void hash_block(const Elements& elements, std::uint32_t count, std::uint64_t block, unsigned thread,
                                  std::uint64_t* hash) {
  const std::uint32_t bytes = count * elements.item_size;
  // Every 32nd word: of one chain all.
  std::uint64_t mine = 0, beside = 0;
#pragma unroll 1
  for (std::uint32_t index = thread; 8 * index < bytes; index += 32) {
    const std::uint64_t word = word_at(elements, 8 * index, bytes);
    mine += mixed_word(word, index);
    beside += word;
  }
  mine += __shfl_xor_sync(whole_warp, beside, 1);
  mine += __shfl_xor_sync(whole_warp, mine, 8);
  mine += __shfl_xor_sync(whole_warp, mine, 16);
  std::uint64_t chain[hash_chains];
#pragma unroll
  for (unsigned k = 0; k < hash_chains; ++k) chain[k] = __shfl_sync(whole_warp, mine, k);
  if (thread == 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(hash),
              static_cast<unsigned long long>(finish_hash(chain, bytes, block)));
  }
}

}  // namespace tensometer::cuda
