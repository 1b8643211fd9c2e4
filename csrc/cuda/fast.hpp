// The sums of whole blocks of elements that lie one after another and need no care, by one warp. The hot loop.
//
// A block is four parts of eight rows, at whose end the contract widens lanes to float64. A thread loads 16 bytes at a time,
// neighbouring elements of neighbouring lanes, and keeps one part's sums of these lanes; so few threads cover the 32 lanes
// that a warp has several parts, or two blocks, in work at once. The parts' sums then change hands in shared memory, one
// statistic after another, and thread k goes on as lane k.
#pragma once

#include "cuda/count.hpp"
#include "cuda/shared.hpp"
#include "cuda/warp.hpp"

namespace tensometer::cuda {

template <class T>
struct Pack {
  using Lane = LaneOf<T>;
  static constexpr unsigned elements = 16 / sizeof(T);         // of one load
  static constexpr unsigned threads = block_lanes / elements;  // that cover all lanes
  static constexpr unsigned blocks = threads == 4 ? 2 : 1;     // in work at once
  static constexpr unsigned parts = 32 / (threads * blocks);   // of each
  static constexpr unsigned passes = 4 / parts;
  static constexpr unsigned team = 32 / blocks;  // threads of one block
};

// Element i, which is known when this is compiled.
template <class T>
TENSOMETER_DEVICE T element_of(const Words& words, unsigned i) {
  if constexpr (sizeof(T) == 8) {
    return std::bit_cast<T>(std::uint64_t{words.word[2 * i + 1]} << 32 | words.word[2 * i]);
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(words.word[i]);
  } else {
    return std::bit_cast<T>(static_cast<std::uint16_t>(words.word[i / 2] >> 16 * (i % 2)));
  }
}

// What a thread has summed of its lanes, and counted.
template <class T>
struct Tally {
  using Lane = LaneOf<T>;
  Lane sum[Pack<T>::elements], squares[Pack<T>::elements], magnitudes[Pack<T>::elements];
  Lane low = static_cast<Lane>(infinity), high = static_cast<Lane>(-infinity);
  std::uint32_t zeros = 0, negatives = 0;
};

// Where in shared memory a thread counts, by which bits, and how often; weight 0: not at all.
struct Counting {
  std::uint32_t* counters;
  unsigned shift;
  std::uint32_t weight;
};

template <class T>
TENSOMETER_DEVICE void count_row(const Words (&words)[row_terms], const Counting& counting) {
  if (counting.weight == 0) return;
#pragma unroll
  for (unsigned i = 0; i < row_terms * Pack<T>::elements; ++i) {
    const auto v = widen(element_of<T>(words[i / Pack<T>::elements], i % Pack<T>::elements));
    atomicAdd(counting.counters + (truncated_pattern(v) >> counting.shift), counting.weight);
  }
}

template <class T>
TENSOMETER_DEVICE void add_row(const Words (&words)[row_terms], LaneOf<T> pivot, Tally<T>& t) {
  using Lane = LaneOf<T>;
#pragma unroll
  for (unsigned e = 0; e < Pack<T>::elements; ++e) {
    Lane d[row_terms], square[row_terms], size[row_terms];
#pragma unroll
    for (unsigned term = 0; term < row_terms; ++term) {
      const Lane v = widen(element_of<T>(words[term], e));
      t.low = v < t.low ? v : t.low;
      t.high = v > t.high ? v : t.high;
      t.zeros += v == 0;
      t.negatives += v < 0;
      d[term] = v - pivot;
      square[term] = d[term] * d[term];
      size[term] = std::fabs(v);
    }
    t.sum[e] += (d[0] + d[1]) + (d[2] + d[3]);
    t.squares[e] += (square[0] + square[1]) + (square[2] + square[3]);
    t.magnitudes[e] += (size[0] + size[1]) + (size[2] + size[3]);
  }
}

// Eight rows of a part, `data` being where this thread's first 16 bytes are.
template <class T, bool counts>
TENSOMETER_DEVICE void add_part(const unsigned char* data, LaneOf<T> pivot, const Counting& counting, Tally<T>& t) {
#pragma unroll
  for (unsigned e = 0; e < Pack<T>::elements; ++e) t.sum[e] = t.squares[e] = t.magnitudes[e] = 0;
#pragma unroll 1
  for (unsigned row = 0; row < lane_rows; ++row) {
    Words words[row_terms];
#pragma unroll
    for (unsigned term = 0; term < row_terms; ++term) {
      words[term] = *reinterpret_cast<const Words*>(data + term * block_lanes * sizeof(T));
    }
    data += row_size * sizeof(T);
    if constexpr (counts) count_row<T>(words, counting);
    add_row<T>(words, pivot, t);
  }
}

// Adds the parts' sums of each lane to the lane's: thread k is lane k, of each block in work.
template <class T>
TENSOMETER_DEVICE void widen_parts(const LaneOf<T> (&mine)[Pack<T>::elements], Exchange& exchange, unsigned thread,
                                   double (&wide)[Pack<T>::blocks]) {
  using Lane = LaneOf<T>;
  auto* lanes = reinterpret_cast<Lane*>(exchange.lanes);
#pragma unroll
  for (unsigned e = 0; e < Pack<T>::elements; ++e) {
    lanes[thread / Pack<T>::threads * block_lanes + thread % Pack<T>::threads * Pack<T>::elements + e] = mine[e];
  }
  __syncwarp(whole_warp);
#pragma unroll
  for (unsigned block = 0; block < Pack<T>::blocks; ++block) {
#pragma unroll
    for (unsigned part = 0; part < Pack<T>::parts; ++part) {
      wide[block] += static_cast<double>(lanes[(block * Pack<T>::parts + part) * block_lanes + thread]);
    }
  }
  __syncwarp(whole_warp);
}

// The pivot of a block, by the whole warp.
template <class T>
TENSOMETER_DEVICE LaneOf<T> fast_pivot(const T* block, unsigned thread) {
  double value[row_terms];
#pragma unroll
  for (unsigned term = 0; term < row_terms; ++term) {
    value[term] = static_cast<double>(widen(block[term * block_lanes + thread]));
  }
  const double first = __shfl_sync(whole_warp, value[0], 0);
  const double sum = fold_warp((value[0] + value[2]) + (value[1] + value[3]));
  const double size =
      fold_warp((std::fabs(value[0]) + std::fabs(value[2])) + (std::fabs(value[1]) + std::fabs(value[3])));
  return static_cast<LaneOf<T>>(round_pivot(sum / row_size, size / row_size, first));
}

// Of a team's threads, at the first of them.
template <class T>
TENSOMETER_DEVICE void join_team(Tally<T>& t) {
#pragma unroll
  for (unsigned width = Pack<T>::team / 2; width > 0; width /= 2) {
    const auto low = __shfl_xor_sync(whole_warp, t.low, width), high = __shfl_xor_sync(whole_warp, t.high, width);
    t.low = low < t.low ? low : t.low;
    t.high = high > t.high ? high : t.high;
    t.zeros += __shfl_xor_sync(whole_warp, t.zeros, width);
    t.negatives += __shfl_xor_sync(whole_warp, t.negatives, width);
  }
}

// What a team knows of its block, written by its first thread: whether it needs care after all as well. Then its sums are worth
// nothing, though it is counted.
template <class T>
TENSOMETER_DEVICE void write_counts(const Tally<T>& t, LaneOf<T> pivot, BlockSums& sums, std::uint32_t& careful) {
  sums = BlockSums{};
  sums.count = block_size;
  sums.zeros = t.zeros, sums.negatives = t.negatives;
  sums.min = static_cast<double>(t.low) + 0.0, sums.max = static_cast<double>(t.high) + 0.0;
  sums.pivot = static_cast<double>(pivot);
  const double low = std::fabs(sums.min), high = std::fabs(sums.max);
  careful = block_exponent<LaneOf<T>>(low < high ? high : low) != 0;
}

// The sums of Pack<T>::blocks whole blocks, which lie one behind the other at `data`, 16-byte aligned; of the first `wanted`
// of them.
template <class T, bool counts>
TENSOMETER_DEVICE void fast_blocks(const unsigned char* data, unsigned wanted, const Counting& counting,
                                   Exchange& exchange, unsigned thread, Slot* slots, std::uint32_t* careful) {
  using P = Pack<T>;
  constexpr std::uint32_t block_bytes = block_size * sizeof(T);
  const unsigned team = thread / P::team, mine = team < wanted ? team : 0;  // without a block: the first one once more
  LaneOf<T> pivot = fast_pivot(reinterpret_cast<const T*>(data), thread);
  if constexpr (P::blocks == 2) {
    const LaneOf<T> other = fast_pivot(reinterpret_cast<const T*>(data + (wanted == 2 ? block_bytes : 0)), thread);
    pivot = mine == 0 ? pivot : other;
  }
  const Counting once{counting.counters, counting.shift, team < wanted ? counting.weight : 0};
  data += mine * block_bytes + thread % P::threads * sizeof(Words) +
          thread / P::threads % P::parts * lane_rows * row_size * sizeof(T);
  Tally<T> t;
  double wide[3][P::blocks] = {};
#pragma unroll 1
  for (unsigned pass = 0; pass < P::passes; ++pass) {
    add_part<T, counts>(data, pivot, once, t);
    data += P::parts * lane_rows * row_size * sizeof(T);
    widen_parts<T>(t.sum, exchange, thread, wide[0]);
    widen_parts<T>(t.squares, exchange, thread, wide[1]);
    widen_parts<T>(t.magnitudes, exchange, thread, wide[2]);
  }
  join_team(t);
  if (team < wanted && thread % P::team == 0) write_counts<T>(t, pivot, slots[team].raw.sums, careful[team]);
  __syncwarp(whole_warp);
#pragma unroll
  for (unsigned block = 0; block < P::blocks; ++block) {
    const double sum = fold_warp(wide[0][block]), squares = fold_warp(wide[1][block]);
    const double magnitudes = fold_warp(wide[2][block]);
    if (thread != 0 || block >= wanted) continue;
    slots[block].raw.sums.sum = sum, slots[block].raw.sums.squares = squares;
    slots[block].raw.sums.magnitudes = magnitudes;
    careful[block] |= !(magnitudes < infinity);  // something is not finite
  }
}

}  // namespace tensometer::cuda
