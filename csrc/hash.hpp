// The mixing of 64-bit words that fingerprints are made of.
#pragma once

#include <cstdint>

#include "both.hpp"

namespace tensometer {

// Odd constants: 2^64 / golden ratio, and the two of the SplitMix64 finaliser (Steele, Lea, Flood 2014).
inline constexpr std::uint64_t golden = 0x9e3779b97f4a7c15ull, mix_1 = 0xbf58476d1ce4e5b9ull,
                               mix_2 = 0x94d049bb133111ebull;

TENSOMETER_BOTH static inline std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * mix_1;
  x = (x ^ (x >> 27)) * mix_2;
  return x ^ (x >> 31);
}

// A block is hashed in so many chains: word k of it goes into chain k modulo 8, its neighbour takes it as it is.
inline constexpr unsigned hash_chains = 8;

// What word `index` of a block (8 bytes, the last one filled up by zeros) adds to its chain. As XXH3 does (Collet 2019):
// the halves of each word, mixed with a key of its position, are multiplied, which no other change undoes but by chance; the
// word itself is added next door, so that nothing is lost where a half is zero.
TENSOMETER_BOTH static inline std::uint64_t mixed_word(std::uint64_t word, std::uint64_t index) {
  const std::uint64_t mixed = word ^ (golden * (index + 1));
  return (mixed & 0xffffffffu) * (mixed >> 32);
}

// The hash of a block of so many bytes before its chains, each of which it is then mixed with.
TENSOMETER_BOTH static inline std::uint64_t begin_hash(std::uint64_t bytes, std::uint64_t block_index) {
  return mix(block_index + golden * bytes);
}

// The hash of a block of so many bytes, of its chains.
TENSOMETER_BOTH static inline std::uint64_t finish_hash(const std::uint64_t (&chain)[hash_chains], std::uint64_t bytes,
                                                        std::uint64_t block_index) {
  std::uint64_t hash = begin_hash(bytes, block_index);
  for (const std::uint64_t state : chain) hash = mix(hash ^ state);
  return hash;
}

}  // namespace tensometer
