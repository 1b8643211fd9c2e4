// The float32 pattern by whose top bits a value is counted into the logarithmic histogram.
#pragma once

#include <bit>
#include <cstdint>

#include "both.hpp"

namespace tensometer {

TENSOMETER_BOTH static inline std::uint32_t truncated_pattern(float x) { return std::bit_cast<std::uint32_t>(x); }

// Of a float64, rounded towards zero so that no value leaves its bin; beyond float32's range the outermost finite pattern.
// NaN and infinities keep an all-ones exponent.
TENSOMETER_BOTH static inline std::uint32_t truncated_pattern(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
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

}  // namespace tensometer
