// Sixteen-bit halves of words, two at a time: what the hot loop counts and compares without unpacking elements.
//
// Halves are compared as float16, whatever they are: its order is that of every sign-and-magnitude format as long as no
// pattern is a NaN of float16. Of bfloat16 these are values of 2^121 and above, whose block needs care anyway.
#pragma once

#include "cuda/device.hpp"

namespace tensometer::cuda {

inline constexpr std::uint32_t two_infinities = 0x7c007c00u, two_signs = 0x80008000u;

#ifdef __CUDACC__
// The upper halves of two words.
TENSOMETER_DEVICE std::uint32_t upper_halves(std::uint32_t a, std::uint32_t b) {
  std::uint32_t halves;
  asm("prmt.b32 %0, %1, %2, 0x7632;" : "=r"(halves) : "r"(a), "r"(b));
  return halves;
}

template <unsigned k>
TENSOMETER_DEVICE std::uint32_t byte_of(std::uint32_t word) {
  std::uint32_t byte;
  asm("prmt.b32 %0, %1, 0, %2;" : "=r"(byte) : "r"(word), "n"(0x4440 + k));
  return byte;
}

// A byte of ones for each half that has its sign bit.
TENSOMETER_DEVICE std::uint32_t sign_bytes(std::uint32_t a, std::uint32_t b) {
  std::uint32_t bytes;
  asm("prmt.b32 %0, %1, %2, 0xfdb9;" : "=r"(bytes) : "r"(a), "r"(b));
  return bytes;
}
#else
TENSOMETER_DEVICE std::uint32_t upper_halves(std::uint32_t a, std::uint32_t b) { return a >> 16 | (b & 0xffff0000u); }

template <unsigned k>
TENSOMETER_DEVICE std::uint32_t byte_of(std::uint32_t word) {
  return word >> 8 * k & 255u;
}

TENSOMETER_DEVICE std::uint32_t sign_bytes(std::uint32_t a, std::uint32_t b) {
  return ((a >> 15 & 1u) | (a >> 31) << 8 | (b >> 15 & 1u) << 16 | (b >> 31) << 24) * 255u;
}
#endif

// How many sign bits there were, of the sum modulo 2^32 of what sign_bytes said: fewer than 256 times.
TENSOMETER_DEVICE std::uint32_t signs_of(std::uint32_t sum) {
  const std::uint32_t bytes = sum * 0xfefefeffu;  // divided by 255: what each byte counted
  const std::uint32_t pairs = (bytes & 0x00ff00ffu) + (bytes >> 8 & 0x00ff00ffu);
  return (pairs & 0xffffu) + (pairs >> 16);
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
inline constexpr bool has_packed_extremes = true;
#else
inline constexpr bool has_packed_extremes = false;
#endif

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 800
// What the instruction does with a half: of a NaN and a number it returns the number.
template <bool least>
TENSOMETER_DEVICE std::uint32_t extreme_half(std::uint32_t a, std::uint32_t b) {
  const std::uint32_t size_of_a = a & 0x7fffu, size_of_b = b & 0x7fffu;
  if (size_of_a > 0x7c00u) return b;
  if (size_of_b > 0x7c00u) return a;
  const auto value_of_a = static_cast<std::int32_t>(a < 0x8000u ? size_of_a : 0x8000u - a);
  const auto value_of_b = static_cast<std::int32_t>(b < 0x8000u ? size_of_b : 0x8000u - b);
  return (value_of_a < value_of_b) == least ? a : b;
}

template <bool least>
TENSOMETER_DEVICE std::uint32_t extreme_halves(std::uint32_t a, std::uint32_t b) {
  return extreme_half<least>(a >> 16, b >> 16) << 16 | extreme_half<least>(a & 0xffffu, b & 0xffffu);
}

TENSOMETER_DEVICE std::uint32_t lower_of_halves(std::uint32_t a, std::uint32_t b) { return extreme_halves<true>(a, b); }

TENSOMETER_DEVICE std::uint32_t higher_of_halves(std::uint32_t a, std::uint32_t b) {
  return extreme_halves<false>(a, b);
}

TENSOMETER_DEVICE std::uint32_t sizes_of_halves(std::uint32_t a) { return a & ~two_signs; }
#else
TENSOMETER_DEVICE std::uint32_t lower_of_halves(std::uint32_t a, std::uint32_t b) {
  std::uint32_t found;
  asm("min.f16x2 %0, %1, %2;" : "=r"(found) : "r"(a), "r"(b));
  return found;
}

TENSOMETER_DEVICE std::uint32_t higher_of_halves(std::uint32_t a, std::uint32_t b) {
  std::uint32_t found;
  asm("max.f16x2 %0, %1, %2;" : "=r"(found) : "r"(a), "r"(b));
  return found;
}

TENSOMETER_DEVICE std::uint32_t sizes_of_halves(std::uint32_t a) {
  std::uint32_t found;
  asm("abs.f16x2 %0, %1;" : "=r"(found) : "r"(a));
  return found;
}
#endif

}  // namespace tensometer::cuda
