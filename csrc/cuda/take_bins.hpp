// A tensor's counters become its bins.
#pragma once

#include "cuda/bin_words.hpp"
#include "cuda/shared.hpp"
#include "cuda/warp.hpp"

namespace tensometer::cuda {

// Whether a run begins with a lane's bin, if it is one of those that are filled. A run ends with the last lane, for no warp knows
// of another's.
TENSOMETER_DEVICE bool begins_run(unsigned filled, unsigned lane) {
  return lane % run_bins == 0 || (filled >> (lane - 1) & 1) == 0;
}

TENSOMETER_DEVICE std::uint32_t words_of_bin(std::uint64_t count, unsigned filled, unsigned lane) {
  return count == 0 ? 0 : words_of_count(count) + (begins_run(filled, lane) ? run_words : 0);
}

// How many words the lanes before this one have, and all, of at most seven each.
struct WordsOfWarp {
  std::uint32_t before = 0, all = 0;
};

TENSOMETER_DEVICE WordsOfWarp add_words(std::uint32_t words, unsigned lane) {
  WordsOfWarp sum;
#pragma unroll
  for (unsigned bit = 0; bit < 3; ++bit) {
    const unsigned lanes = __ballot_sync(whole_warp, (words >> bit & 1) != 0);
    sum.before += static_cast<std::uint32_t>(__popc(lanes & ((1u << lane) - 1))) << bit;
    sum.all += static_cast<std::uint32_t>(__popc(lanes)) << bit;
  }
  return sum;
}

TENSOMETER_DEVICE void write_bin(BinWord* words, std::uint32_t bin, std::uint64_t count, bool begins) {
  if (begins) {
    *words++ = 0;
    *words++ = static_cast<BinWord>(bin);
  }
#pragma unroll 1
  for (; count > group_mask; count >>= group_bits) *words++ = static_cast<BinWord>(count | (group_mask + 1));
  *words = static_cast<BinWord>(count);
}

// The counters that are not zero, and zeros in their place. bytes: whether they are of a one-byte type. Each warp takes a part of
// them, 32 at a time, once to know how many words there are and once to write them. Without room there are none: then they are
// said to begin where there is no room.
template <class Result>
TENSOMETER_DEVICE void take_bins(unsigned long long* counters, std::uint32_t size, bool bytes,
                                 const OutputOf<Result>& output, Result& result, FinishShared& shared) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::uint32_t share = size / finish_warps, begin = warp * share;
  std::uint32_t found = 0;
#pragma unroll 1
  for (std::uint32_t i = begin; i < begin + share; i += 32) {
    const std::uint64_t count = counters[i + lane];
    found += words_of_bin(count, __ballot_sync(whole_warp, count != 0), lane);
  }
  found = add_warp(found);
  if (lane == 0) shared.found[warp] = found;
  __syncthreads();
  std::uint32_t before = 0, all = 0;
  for (unsigned k = 0; k < finish_warps; ++k) {
    before += k < warp ? shared.found[k] : 0;
    all += shared.found[k];
  }
  if (threadIdx.x == 0) {
    auto* used = reinterpret_cast<unsigned long long*>(output.used) + (bytes ? 1 : 0);
    const std::uint64_t first = (bytes ? 0 : output.bytes_room) + atomicAdd(used, static_cast<unsigned long long>(all));
    const bool fits = first + all <= (bytes ? output.bytes_room : output.room);
    shared.first = result.first_word = fits ? first : output.room;
    result.words = all;
  }
  __syncthreads();
  const bool fits = shared.first != output.room;
  BinWord* words = output.words + shared.first + (fits ? before : 0);
#pragma unroll 1
  for (std::uint32_t i = begin; i < begin + share; i += 32) {
    const std::uint64_t count = counters[i + lane];
    const unsigned filled = __ballot_sync(whole_warp, count != 0);
    if (filled == 0) continue;
    const WordsOfWarp sum = add_words(words_of_bin(count, filled, lane), lane);
    if (count != 0) {
      if (fits) write_bin(words + sum.before, i + lane, count, begins_run(filled, lane));
      counters[i + lane] = 0;
    }
    words += sum.all;
  }
}

}  // namespace tensometer::cuda
