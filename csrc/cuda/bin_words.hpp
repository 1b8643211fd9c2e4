// Bins that are not empty as they come from a device: 16-bit words, most often one a bin.
//
// A zero and the number of a bin begin a run of bins without a gap. The counts of its bins follow, each in groups of 15 bits, lowest
// first; the top bit of a word says that there is one more group. No count is zero, so a zero can only begin a run.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dtype.hpp"

namespace tensometer::cuda {

using BinWord = std::uint16_t;

inline constexpr unsigned group_bits = 15;
inline constexpr std::uint32_t group_mask = (1u << group_bits) - 1, run_words = 2;

// How many words a count takes. A tensor has at most 2^40 elements (plan.cpp), and none is counted more than eight times.
TENSOMETER_BOTH constexpr std::uint32_t words_of_count(std::uint64_t count) {
  return count == 0 ? 0 : count >> group_bits == 0 ? 1 : count >> 2 * group_bits == 0 ? 2 : 3;
}

// Bins of which one warp takes the counters: no run goes beyond them.
inline constexpr std::uint32_t run_bins = 32;

// Most words that so many elements take in so many bins, a multiple of run_bins. Most runs there are if every second bin is empty,
// but for the last two of a warp; a sampled element is counted eight times, and behind a count's first word every other one stands
// for at least 2^15.
constexpr std::uint64_t most_words(std::uint64_t count, std::uint64_t bins) {
  const std::uint64_t runs = bins / 2, filled = bins / 2 + bins / run_bins;
  return std::min((1 + run_words) * count, filled + run_words * runs) + std::min(2 * bins, 8 * count >> group_bits);
}

// see(bin, count) of each, ascending.
template <class See>
void for_each_bin(std::span<const BinWord> words, See&& see) {
  std::uint32_t bin = 0;
  for (std::size_t i = 0; i < words.size(); ++bin) {
    if (words[i] == 0) {
      bin = words[i + 1];
      i += run_words;
    }
    std::uint64_t count = 0;
    for (unsigned shift = 0;; shift += group_bits) {
      const BinWord word = words[i++];
      count |= std::uint64_t{word & group_mask} << shift;
      if (word <= group_mask) break;
    }
    see(bin, count);
  }
}

}  // namespace tensometer::cuda
