// Which blocks histogram="sampled" counts.
#pragma once

#include <cstdint>

#include "both.hpp"

namespace tensometer {

enum class HistogramMode : std::uint8_t { none, full, sampled };

// All of the first 16 blocks, then one in two up to block 32, one in four up to 64, and one in eight from there on, each so many
// times over: no block stands for more than an eighth of what lies before it, and of 2^22 elements a seventh is counted.
inline constexpr std::uint64_t sampled_whole = 16, sampled_least = 3;  // one in 2^3 at the least

// The logarithm of one in how many blocks is counted around a block.
TENSOMETER_BOTH inline std::uint64_t sampled_rarity(std::uint64_t block) {
  std::uint64_t rarity = 0;
  while (rarity < sampled_least && block >= sampled_whole << rarity) ++rarity;
  return rarity;
}

// How much a block counts for; 0 if it is left out. Which ones are counted is told by the top bits of the index times
// 2^64 / golden ratio: spread as evenly as a fixed stride would, but in step with no period of the data.
TENSOMETER_BOTH inline std::uint32_t block_weight(HistogramMode mode, std::uint64_t block) {
  if (mode == HistogramMode::none) return 0;
  const std::uint64_t rarity = mode == HistogramMode::full ? 0 : sampled_rarity(block);
  constexpr std::uint64_t key = 0x9e3779b97f4a7c15ull;
  return rarity == 0 || (block * key) >> (64 - rarity) == 0 ? std::uint32_t{1} << rarity : 0;
}

}  // namespace tensometer
