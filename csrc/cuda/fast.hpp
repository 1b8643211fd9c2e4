// The sums of whole blocks of elements that lie one after another and need no care, by one warp. The hot loop.
//
// A block is four parts of eight rows, at whose end the contract widens lanes to float64. A thread loads 16 bytes at a time,
// neighbouring elements of neighbouring lanes, and keeps one part's sums of these lanes; so few threads cover the 32 lanes
// that a warp has several parts, or two blocks, in work at once. The parts' sums then change hands in shared memory, one
// statistic after another, and thread k goes on as lane k. What takes shuffles is done once for all types, in whole.hpp.
#pragma once

#include "cuda/count.hpp"
#include "cuda/packed.hpp"
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

template <class T>
TENSOMETER_DEVICE LaneOf<T> widen_fast(T x) {
  return widen(x);
}
#ifdef __CUDACC__
TENSOMETER_DEVICE float widen_fast(float16 x) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
}
#endif

// Of a value and one that may be NaN. Instructions for float32 do just that.
TENSOMETER_DEVICE float lower(float a, float b) { return std::fmin(a, b); }
TENSOMETER_DEVICE float higher(float a, float b) { return std::fmax(a, b); }
TENSOMETER_DEVICE double lower(double a, double b) { return b < a ? b : a; }
TENSOMETER_DEVICE double higher(double a, double b) { return b > a ? b : a; }

// Upper halves of the elements of a load, two a word; i below Pack<T>::elements / 2.
template <class T>
TENSOMETER_DEVICE std::uint32_t halves_of(const Words& words, unsigned i) {
  if constexpr (sizeof(T) == 2) {
    return words.word[i];
  } else {
    constexpr unsigned size = sizeof(T) / sizeof(std::uint32_t);
    return upper_halves(words.word[2 * i * size + size - 1], words.word[(2 * i + 2) * size - 1]);
  }
}

// What a thread has summed of its lanes, and seen.
template <class T>
struct Tally {
  using Lane = LaneOf<T>;
  static constexpr bool packed = sizeof(T) == 2 && has_packed_extremes;
  Lane sum[Pack<T>::elements], squares[Pack<T>::elements], magnitudes[Pack<T>::elements];
  Lane low = static_cast<Lane>(infinity), high = static_cast<Lane>(-infinity);
  std::uint32_t lows = two_infinities, highs = two_infinities | two_signs;
  bool nonzero;         // no element so far was zero
  std::uint32_t signs;  // signs_of() tells how many
};

// What a thread takes part in: eight rows of a part of a block, where its first 16 bytes are, and how often each element counts.
struct Part {
  std::uint32_t first;  // in words of 16 bytes, from the item's first element on
  double pivot;
  bool centred;  // the pivots of all threads are 0
  bool counts;   // any thread does
  std::uint32_t* counters;
  unsigned shift;
  std::uint32_t weight;  // 0 is counted too: a loop that asked would be there twice
};

// What a thread saw of its block.
struct Seen {
  double low, high;
  std::uint32_t zeros = 0, negatives = 0;
};

template <class Lane>
TENSOMETER_DEVICE void count(Lane v, const Part& part) {
  atomicAdd(part.counters + (truncated_pattern(v) >> part.shift), part.weight);
}

// Whether to look for zeros by the bits that all magnitudes have in common: half an instruction for two halves, where the least of
// them takes one, or four where there is no instruction for it. But magnitudes on both sides of 2, of float16 of smaller powers of
// two as well, may have none in common: then the elements are looked at, for one to five instructions each. So it is for 16-bit
// types with a pivot, which most often have one sign; for all of float64, whose sums take longer than either, because ptxas spills
// registers on sm_86 and 89 if it is not; and where there is no other way.
template <class T, bool centred>
inline constexpr bool by_bits = !has_packed_extremes || (!centred && sizeof(T) != 4);

// Whether one of some halves may be zero, of the least of their magnitudes, or of the bits in common.
TENSOMETER_DEVICE bool may_be_zero(std::uint32_t halves) {
  return (halves & 0x7fffu) == 0 || (halves & 0x7fff0000u) == 0;
}

// Extremes of 16-bit types, signs, and what may_be_zero() asks for, by upper halves: a magnitude that is small enough has none.
template <class T, bool centred>
TENSOMETER_DEVICE void see_row(const Words (&words)[row_terms], std::uint32_t& halves, Tally<T>& t) {
  constexpr unsigned pairs = Pack<T>::elements / 2;
#pragma unroll
  for (unsigned term = 0; term < row_terms; term += 2) {
#pragma unroll
    for (unsigned i = 0; i < pairs; ++i) {
      const std::uint32_t a = halves_of<T>(words[term], i), b = halves_of<T>(words[term + 1], i);
      t.signs += sign_bytes(a, b);
      if constexpr (by_bits<T, centred>) {
        halves &= a & b;
      } else {
        halves = lower_of_halves(lower_of_halves(halves, sizes_of_halves(a)), sizes_of_halves(b));
      }
      if constexpr (Tally<T>::packed) {
        t.lows = lower_of_halves(lower_of_halves(t.lows, a), b);
        t.highs = higher_of_halves(higher_of_halves(t.highs, a), b);
      }
    }
  }
}

template <class T, bool counts, bool centred>
TENSOMETER_DEVICE void add_row(const Words (&words)[row_terms], LaneOf<T> pivot, const Part& part, Tally<T>& t) {
  using Lane = LaneOf<T>;
#pragma unroll
  for (unsigned e = 0; e < Pack<T>::elements; ++e) {
    Lane d[row_terms], square[row_terms], size[row_terms];
#pragma unroll
    for (unsigned term = 0; term < row_terms; ++term) {
      const Lane v = widen_fast(element_of<T>(words[term], e));
      if constexpr (counts) count(v, part);
      if constexpr (!Tally<T>::packed) t.low = lower(t.low, v), t.high = higher(t.high, v);
      d[term] = centred ? v : v - pivot;
      square[term] = d[term] * d[term];
      size[term] = std::fabs(v);
    }
    t.sum[e] += (d[0] + d[1]) + (d[2] + d[3]);
    t.squares[e] += (square[0] + square[1]) + (square[2] + square[3]);
    t.magnitudes[e] += (size[0] + size[1]) + (size[2] + size[3]);
  }
}

// Whether there is a zero among the elements of a load. Without instructions of float64, of which some devices have few.
template <class T>
TENSOMETER_DEVICE bool holds_zero(const Words& words) {
  bool zero = false;
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 2) zero |= may_be_zero(words.word[i]);
    if constexpr (sizeof(T) == 4) zero |= words.word[i] << 1 == 0;
    if constexpr (sizeof(T) == 8) zero |= i % 2 != 0 && (words.word[i] << 1 | words.word[i - i % 2]) == 0;
  }
  return zero;
}

// The same of a thread's elements of so many terms.
template <class T, unsigned terms>
TENSOMETER_DEVICE bool holds_zero(const unsigned char* data) {
  std::uint32_t least = two_infinities;
  bool zero = false;
#pragma unroll 4
  for (unsigned term = 0; term < terms; ++term) {
    const Words words = load_words(data + term * block_lanes * sizeof(T));
    if constexpr (Tally<T>::packed) {
#pragma unroll
      for (const std::uint32_t word : words.word) least = lower_of_halves(least, sizes_of_halves(word));
    } else {
      zero |= holds_zero<T>(words);
    }
  }
  return zero || may_be_zero(least);
}

// How many rows the hot loop takes at a time: as many as there are registers for.
template <class T, bool centred>
TENSOMETER_DEVICE constexpr unsigned rows_at_once() {
  if constexpr (sizeof(T) == 2) return !has_packed_extremes ? 4 : centred ? 1 : 2;
  return sizeof(T) == sizeof(float) ? 2 : 1;
}

// The item's first element is read anew for every row, and where the rows end is told by where they are: with an address and a
// number of rows the sums would not fit in registers.
TENSOMETER_DEVICE const unsigned char* elements_at(const Shared& shared, std::uint32_t words) {
  const unsigned char* data = *static_cast<const unsigned char* const volatile*>(&shared.data);
  return data + std::uint64_t{words} * sizeof(Words);
}

template <class T, bool counts, bool centred>
TENSOMETER_DEVICE void add_rows(const Shared& shared, const Part& part, Tally<T>& t) {
  constexpr std::uint32_t row = row_size * sizeof(T) / sizeof(Words);
  constexpr unsigned at_once = rows_at_once<T, centred>();
  const auto pivot = static_cast<LaneOf<T>>(part.pivot);
  std::uint32_t at = part.first;
#pragma unroll 1
  do {
    const unsigned char* data = elements_at(shared, at);
    std::uint32_t halves = by_bits<T, centred> ? ~0u : two_infinities;
#pragma unroll
    for (unsigned k = 0; k < at_once; ++k) {
      Words words[row_terms];
#pragma unroll
      for (unsigned term = 0; term < row_terms; ++term) {
        words[term] = load_words(data + (k * row_terms + term) * block_lanes * sizeof(T));
      }
      see_row<T, centred>(words, halves, t);
      add_row<T, counts, centred>(words, pivot, part, t);
    }
    if constexpr (!by_bits<T, centred>) {
      t.nonzero &= !may_be_zero(halves);
    } else if (__builtin_expect(t.nonzero && may_be_zero(halves), 0)) {
      t.nonzero = !holds_zero<T, at_once * row_terms>(elements_at(shared, at));  // they were read just now
    }
    at += at_once * row;
  } while (at / row % lane_rows != 0);
}

// Whether the loop above counts as well. With a pivot it has no registers left for that, nor with float64.
template <class T>
TENSOMETER_DEVICE bool counts_at_once(const Part& part) {
  return sizeof(LaneOf<T>) == 4 && part.centred && part.counts;
}

template <class T>
TENSOMETER_DEVICE void add_part(const Shared& shared, const Part& part, Tally<T>& t) {
#pragma unroll
  for (unsigned e = 0; e < Pack<T>::elements; ++e) t.sum[e] = t.squares[e] = t.magnitudes[e] = 0;
  t.nonzero = true, t.signs = 0;
  if constexpr (sizeof(LaneOf<T>) == 4) {
    if (counts_at_once<T>(part)) {
      add_rows<T, true, true>(shared, part, t);
      return;
    }
    if (part.centred) {
      add_rows<T, false, true>(shared, part, t);
      return;
    }
  }
  add_rows<T, false, false>(shared, part, t);
}

// Counts eight rows of a part by themselves.
template <class T>
TENSOMETER_DEVICE void count_part(const Shared& shared, const Part& part) {
  const unsigned char* data = shared.data + part.first * sizeof(Words);
#pragma unroll 4
  for (unsigned term = 0; term < lane_rows * row_terms; ++term) {
    const Words words = load_words(data + term * block_lanes * sizeof(T));
#pragma unroll
    for (unsigned e = 0; e < Pack<T>::elements; ++e) count(widen_fast(element_of<T>(words, e)), part);
  }
}

// Adds the parts' sums of each lane to the lane's, statistic by statistic, in an array for each block in work, one behind the
// other. Thread k is lane k.
template <class T>
TENSOMETER_DEVICE void widen_parts(const LaneOf<T> (&mine)[Pack<T>::elements], Work& work, unsigned statistic,
                                   bool first) {
  using Lane = LaneOf<T>;
  using P = Pack<T>;
  // Behind the arrays, or, of the last statistic of a single pass, where its arrays will be.
  constexpr unsigned arrays = P::blocks * P::parts * sizeof(Lane) / sizeof(double);
  static_assert(arrays <= 2 || (arrays <= 4 && P::passes == 1));
  auto* lanes = reinterpret_cast<Lane*>(work.lanes[8 - arrays]);
  const unsigned thread = thread_index() % 32;
#pragma unroll
  for (unsigned e = 0; e < P::elements; ++e) {
    lanes[thread / P::threads * block_lanes + thread % P::threads * P::elements + e] = mine[e];
  }
  __syncwarp(whole_warp);
  double wide[P::blocks];
#pragma unroll
  for (unsigned block = 0; block < P::blocks; ++block) {
    wide[block] = first ? 0 : work.lanes[P::blocks * statistic + block][thread];
#pragma unroll
    for (unsigned part = 0; part < P::parts; ++part) {
      wide[block] += static_cast<double>(lanes[(block * P::parts + part) * block_lanes + thread]);
    }
  }
  __syncwarp(whole_warp);
#pragma unroll
  for (unsigned block = 0; block < P::blocks; ++block) work.lanes[P::blocks * statistic + block][thread] = wide[block];
}

template <class T>
TENSOMETER_DEVICE void take_extremes(const Tally<T>& t, Seen& seen) {
  LaneOf<T> low = t.low, high = t.high;
  if constexpr (Tally<T>::packed) {
    const Words both{{t.lows, t.highs, 0, 0}};
    low = lower(widen_fast(element_of<T>(both, 0)), widen_fast(element_of<T>(both, 1)));
    high = higher(widen_fast(element_of<T>(both, 2)), widen_fast(element_of<T>(both, 3)));
  }
  seen.low = static_cast<double>(low), seen.high = static_cast<double>(high);
}

// Counts a thread's zeros and negative elements once more, one by one.
template <class T>
TENSOMETER_DEVICE void recount(const unsigned char* data, Seen& seen) {
#pragma unroll 1
  for (unsigned term = 0; term < lane_rows * row_terms; ++term) {
    const Words words = load_words(data + term * block_lanes * sizeof(T));
#pragma unroll
    for (unsigned e = 0; e < Pack<T>::elements; ++e) {
      const LaneOf<T> v = widen_fast(element_of<T>(words, e));
      seen.zeros += v == 0;
      seen.negatives += v < 0;
    }
  }
}

// Of a pass over the blocks in work. A team without a block takes the first once more.
template <class T>
TENSOMETER_DEVICE Part part_of(Shared& shared, unsigned pass) {
  using P = Pack<T>;
  const unsigned index = thread_index(), thread = index % 32, team = thread / P::team;
  const Work& work = shared.work[index / 32];
  const bool wanted = team < work.wanted;
  const std::uint32_t block = work.block + (wanted ? team : 0);
  const std::uint32_t part = pass * P::parts + thread / P::threads % P::parts;
  return {(block * block_size + part * lane_rows * row_size) / P::elements + thread % P::threads,
          work.pivot[wanted ? team : 0],
          work.pivot[0] == 0 && work.pivot[work.wanted - 1] == 0,
          (work.weight[0] | work.weight[work.wanted - 1]) != 0,
          counters_behind(shared),
          23u - shared.tensor.resolution,
          wanted ? work.weight[team] : 0};
}

// The blocks in work, by all threads of a warp. Leaves the sums of each lane: in an array for each block the sums, then the
// squares, then the magnitudes.
template <class T>
TENSOMETER_DEVICE void add_blocks(Shared& shared, Seen& seen) {
  Tally<T> t;
#pragma unroll 1
  for (unsigned pass = 0; pass < Pack<T>::passes; ++pass) {
    add_part<T>(shared, part_of<T>(shared, pass), t);
    if (!t.nonzero) {
      recount<T>(shared.data + part_of<T>(shared, pass).first * sizeof(Words), seen);
    } else {
      seen.negatives += signs_of(t.signs);
    }
    const Part part = part_of<T>(shared, pass);
    if (part.counts && !counts_at_once<T>(part)) count_part<T>(shared, part);
    Work& work = shared.work[thread_index() / 32];
    widen_parts<T>(t.sum, work, 0, pass == 0);
    widen_parts<T>(t.squares, work, 1, pass == 0);
    widen_parts<T>(t.magnitudes, work, 2, pass == 0);
  }
  take_extremes(t, seen);
}

}  // namespace tensometer::cuda
