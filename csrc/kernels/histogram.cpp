// Counting a block into the logarithmic histogram: the top bits of the float32 pattern are the index.
//
// One load-add-store an element is the limit (about 1.1 to 1.5 cycles); indices are computed from whole words so that
// nothing else competes for the load and store units.
#include "kernels/kernels.hpp"
#include "pattern.hpp"
#include "simd.hpp"

namespace tensometer {
namespace {

TENSOMETER_INLINE std::uint64_t load_word(const void* p) {
  std::uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

// Neighbours are counted in two tables: a counter cannot be raised twice within the latency of a store, and equal
// neighbours are common (half of what a ReLU passes on is zero). More tables cost more cache than they save.
// The next block is fetched meanwhile: counting leaves the memory idle, and looks ahead too little by itself.
TENSOMETER_INLINE void count_patterns(const std::uint32_t* patterns, std::uint32_t count, unsigned resolution,
                                      std::uint32_t weight, std::uint32_t* even) {
  const unsigned shift = 23u - resolution, upper = 32u + shift;
  std::uint32_t* odd = even + (std::size_t{1} << (9u + resolution));
  std::uint32_t i = 0;
  for (; i + 16 <= count; i += 16) {
    __builtin_prefetch(patterns + block_size + i, 0, 2);
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < 16; k += 2) {
      const std::uint64_t pair = load_word(patterns + i + k);
      even[static_cast<std::uint32_t>(pair) >> shift] += weight;
      odd[pair >> upper] += weight;
    }
  }
  for (; i < count; ++i) {
    std::uint32_t pattern;
    std::memcpy(&pattern, patterns + i, sizeof pattern);
    even[pattern >> shift] += weight;
  }
}

// bfloat16 is the upper half of float32: its own words are counted, four at a time.
TENSOMETER_INLINE void count_words(const std::uint16_t* words, std::uint32_t count, unsigned resolution,
                                   std::uint32_t weight, std::uint32_t* even) {
  const unsigned shift = 7u - resolution;
  std::uint32_t* odd = even + (std::size_t{1} << (9u + resolution));
  std::uint32_t i = 0;
  for (; i + 32 <= count; i += 32) {
    __builtin_prefetch(words + block_size + i, 0, 2);
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < 32; k += 4) {
      const std::uint64_t word = load_word(words + i + k);
      even[static_cast<std::uint16_t>(word) >> shift] += weight;
      odd[static_cast<std::uint16_t>(word >> 16) >> shift] += weight;
      even[static_cast<std::uint16_t>(word >> 32) >> shift] += weight;
      odd[word >> 48 >> shift] += weight;
    }
  }
  for (; i < count; ++i) {
    std::uint16_t word;
    std::memcpy(&word, words + i, sizeof word);
    even[word >> shift] += weight;
  }
}

// The patterns of 128 float64 lanes. Those that are normal in float32, or zero, take one shift; a row with any other
// element is done one by one.
TENSOMETER_INLINE void patterns_of_row(const double* row, std::uint32_t count, std::uint32_t* patterns) {
  constexpr std::uint64_t one_half = 0x3810000000000000ull, beyond = 0x47f0000000000000ull;  // 2^-126, 2^128
  std::uint64_t strange = 0;
  for (std::uint32_t k = 0; k < count; ++k) {
    std::uint64_t bits;
    std::memcpy(&bits, row + k, sizeof bits);
    const std::uint64_t size = bits & 0x7fffffffffffffffull;
    const std::uint64_t inside = size - one_half < beyond - one_half ? ~0ull : 0ull, zero = size == 0 ? ~0ull : 0ull;
    strange |= ~(inside | zero);
    const std::uint64_t magnitude_pattern = ((size - 0x3800000000000000ull) >> 29) & inside;
    patterns[k] = static_cast<std::uint32_t>(magnitude_pattern | (bits >> 32 & 0x80000000u));
  }
  if (strange == 0) return;
  for (std::uint32_t k = 0; k < count; ++k) patterns[k] = truncated_pattern(row[k]);
}

template <class T>
void count_block(const void* data, std::uint32_t count, unsigned resolution, std::uint32_t weight,
                 std::uint32_t* tables) {
  using Lane = LaneOf<T>;
  if constexpr (std::is_same_v<T, bfloat16>) {
    count_words(static_cast<const std::uint16_t*>(data), count, resolution, weight, tables);
  } else if constexpr (std::is_same_v<T, float>) {
    count_patterns(static_cast<const std::uint32_t*>(data), count, resolution, weight, tables);
  } else {
    alignas(64) std::uint32_t patterns[block_size];
    alignas(64) Lane row[row_size];
    for (std::uint32_t first = 0; first < count; first += row_size) {
      const std::uint32_t width = count - first < row_size ? count - first : row_size;
      widen_block(static_cast<const T*>(data) + first, width, row);
      if constexpr (std::is_same_v<Lane, float>) {
        std::memcpy(patterns + first, row, width * sizeof(Lane));
      } else {
        patterns_of_row(row, width, patterns + first);
      }
    }
    count_patterns(patterns, count, resolution, weight, tables);
  }
}

}  // namespace

extern const HistogramKernels TENSOMETER_CONCAT(histogram_kernels_, TENSOMETER_ISA);
const HistogramKernels TENSOMETER_CONCAT(histogram_kernels_, TENSOMETER_ISA) = {
#define TENSOMETER_ROW(name, storage, lanes) TENSOMETER_ENTRY_##lanes(&count_block<storage>),
    {TENSOMETER_DTYPES(TENSOMETER_ROW)},
#undef TENSOMETER_ROW
};

}  // namespace tensometer
