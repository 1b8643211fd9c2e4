// Counting a block into the logarithmic histogram: the top bits of the float32 pattern are the index.
//
// One load-add-store an element is the limit (about 1.1 to 1.5 cycles); indices are computed from whole words so that
// nothing else competes for the load and store units.
#include "kernels/kernels.hpp"
#include "simd.hpp"

namespace tensometer {
namespace {

TENSOMETER_INLINE std::uint64_t load_word(const void* p) {
  std::uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

// The float32 pattern of a float64, rounded towards zero so that no value leaves its bin; beyond float32's range the
// outermost finite pattern. NaN and infinities keep an all-ones exponent.
TENSOMETER_INLINE std::uint32_t truncated_pattern(double x) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 32) & 0x80000000u;
  const std::uint64_t size = bits & 0x7fffffffffffffffull;
  if (size >= 0x7ff0000000000000ull) return sign | 0x7f800000u;
  if (size >= 0x47f0000000000000ull) return sign | 0x7f7fffffu;  // 2^128 and above
  if (size >= 0x3810000000000000ull) {                           // 2^-126 and above: normal in float32
    return sign | static_cast<std::uint32_t>((size - 0x3800000000000000ull) >> 29);
  }
  // Below 2^-126: shift the mantissa with its hidden bit; below 2^-149 nothing is left.
  const std::uint32_t shift = 926u - static_cast<std::uint32_t>(size >> 52);
  const std::uint64_t mantissa = (size & 0x000fffffffffffffull) | 0x0010000000000000ull;
  return sign | (shift > 52u ? 0u : static_cast<std::uint32_t>(mantissa >> shift));
}

TENSOMETER_INLINE void count_patterns(const std::uint32_t* patterns, std::uint32_t count, unsigned resolution,
                                      std::uint32_t* table) {
  const unsigned shift = 23u - resolution;
  std::uint32_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const std::uint64_t a = load_word(patterns + i), b = load_word(patterns + i + 2);
    const std::uint64_t c = load_word(patterns + i + 4), d = load_word(patterns + i + 6);
    ++table[static_cast<std::uint32_t>(a) >> shift];
    ++table[static_cast<std::uint32_t>(a >> 32) >> shift];
    ++table[static_cast<std::uint32_t>(b) >> shift];
    ++table[static_cast<std::uint32_t>(b >> 32) >> shift];
    ++table[static_cast<std::uint32_t>(c) >> shift];
    ++table[static_cast<std::uint32_t>(c >> 32) >> shift];
    ++table[static_cast<std::uint32_t>(d) >> shift];
    ++table[static_cast<std::uint32_t>(d >> 32) >> shift];
  }
  for (; i < count; ++i) {
    std::uint32_t pattern;
    std::memcpy(&pattern, patterns + i, sizeof pattern);
    ++table[pattern >> shift];
  }
}

// bfloat16 is the upper half of float32: its own words are counted, four at a time.
TENSOMETER_INLINE void count_words(const std::uint16_t* words, std::uint32_t count, unsigned resolution,
                                   std::uint32_t* table) {
  const unsigned shift = 7u - resolution;
  std::uint32_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const std::uint64_t word = load_word(words + i);
    ++table[static_cast<std::uint16_t>(word) >> shift];
    ++table[static_cast<std::uint16_t>(word >> 16) >> shift];
    ++table[static_cast<std::uint16_t>(word >> 32) >> shift];
    ++table[word >> 48 >> shift];
  }
  for (; i < count; ++i) {
    std::uint16_t word;
    std::memcpy(&word, words + i, sizeof word);
    ++table[word >> shift];
  }
}

template <class T>
void count_block(const void* data, std::uint32_t count, unsigned resolution, std::uint32_t* table) {
  using Lane = LaneOf<T>;
  if constexpr (std::is_same_v<T, bfloat16>) {
    count_words(static_cast<const std::uint16_t*>(data), count, resolution, table);
  } else if constexpr (std::is_same_v<T, float>) {
    count_patterns(static_cast<const std::uint32_t*>(data), count, resolution, table);
  } else {
    const T* x = static_cast<const T*>(data);
    alignas(64) std::uint32_t patterns[block_size];
    constexpr std::uint32_t width = Simd<Lane>::lanes;
    std::uint32_t i = 0;
    for (; i + width <= count; i += width) {
      const auto v = load_lanes(x + i);
      if constexpr (std::is_same_v<Lane, float>) {
        store(patterns + i, v);
      } else {
        for (std::uint32_t k = 0; k < width; ++k) patterns[i + k] = truncated_pattern(v[k]);
      }
    }
    for (; i < count; ++i) {
      T element;
      std::memcpy(&element, x + i, sizeof element);
      const Lane value = widen(element);
      if constexpr (std::is_same_v<Lane, float>) {
        std::memcpy(patterns + i, &value, sizeof value);
      } else {
        patterns[i] = truncated_pattern(value);
      }
    }
    count_patterns(patterns, count, resolution, table);
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
