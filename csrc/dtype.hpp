// The element types: name, size, which lanes they are reduced in, and their exact widening in scalar words.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include "both.hpp"

namespace tensometer {

// Storage of the 16-bit floating-point types that C++20 lacks.
struct float16 {
  std::uint16_t bits;
};
struct bfloat16 {
  std::uint16_t bits;
};

// How a type is reduced: in float32 lanes, in float64 lanes, by a table of its 256 values, or as a magnitude in float64.
enum class Lanes : std::uint8_t { f32, f64, table, magnitude };

// X(name, storage of one element, lanes). The one list of element types; bindings, kernels and tests follow it.
#define TENSOMETER_DTYPES(X)               \
  X(float64, double, f64)                  \
  X(float32, float, f32)                   \
  X(float16, ::tensometer::float16, f32)   \
  X(bfloat16, ::tensometer::bfloat16, f32) \
  X(float8_e4m3fn, std::uint8_t, table)    \
  X(float8_e5m2, std::uint8_t, table)      \
  X(float8_e4m3fnuz, std::uint8_t, table)  \
  X(float8_e5m2fnuz, std::uint8_t, table)  \
  X(bool, std::uint8_t, table)             \
  X(int8, std::uint8_t, table)             \
  X(int16, std::int16_t, f32)              \
  X(int32, std::int32_t, f64)              \
  X(int64, std::int64_t, f64)              \
  X(uint8, std::uint8_t, table)            \
  X(uint16, std::uint16_t, f32)            \
  X(uint32, std::uint32_t, f64)            \
  X(uint64, std::uint64_t, f64)            \
  X(complex64, std::uint64_t, magnitude)   \
  X(complex128, ComplexBits128, magnitude)

struct ComplexBits128 {
  std::uint64_t real, imaginary;
};

// The enumerators carry a prefix because `bool` and the storage names are taken.
enum class DType : std::uint8_t {
#define TENSOMETER_ROW(name, storage, lanes) k_##name,
  TENSOMETER_DTYPES(TENSOMETER_ROW)
#undef TENSOMETER_ROW
};

struct DTypeRow {
  std::string_view name;
  std::uint8_t item_size;
  Lanes lanes;
};

inline constexpr DTypeRow dtype_rows[] = {
#define TENSOMETER_ROW(name, storage, lanes) {#name, sizeof(storage), Lanes::lanes},
    TENSOMETER_DTYPES(TENSOMETER_ROW)
#undef TENSOMETER_ROW
};
inline constexpr std::size_t dtype_count = sizeof(dtype_rows) / sizeof(dtype_rows[0]);

constexpr const DTypeRow& row(DType dtype) { return dtype_rows[static_cast<std::size_t>(dtype)]; }

// Integers and bool: their extremes are whole numbers, and they have neither NaN nor infinities.
constexpr bool is_integer(DType dtype) {
  const std::string_view name = row(dtype).name;
  return name.starts_with("int") || name.starts_with("uint") || name == "bool";
}

// Exact widening of one element to float32 (16-bit types) or float64. NaN stays NaN, infinities stay infinite.
TENSOMETER_BOTH static inline float widen(float x) { return x; }
TENSOMETER_BOTH static inline float widen(bfloat16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}
TENSOMETER_BOTH static inline float widen(float16 x) {
  const std::uint32_t sign = (x.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (x.bits >> 10) & 31u, mantissa = x.bits & 1023u;
  if (exponent == 31u) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0u) return std::bit_cast<float>(sign | (exponent + 112u) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0u ? -magnitude : magnitude;
}
TENSOMETER_BOTH static inline float widen(std::int16_t x) { return static_cast<float>(x); }
TENSOMETER_BOTH static inline float widen(std::uint16_t x) { return static_cast<float>(x); }
TENSOMETER_BOTH static inline double widen(double x) { return x; }
TENSOMETER_BOTH static inline double widen(std::int32_t x) { return static_cast<double>(x); }
TENSOMETER_BOTH static inline double widen(std::uint32_t x) { return static_cast<double>(x); }
TENSOMETER_BOTH static inline double widen(std::int64_t x) { return static_cast<double>(x); }   // nearest above 2^53
TENSOMETER_BOTH static inline double widen(std::uint64_t x) { return static_cast<double>(x); }  // nearest above 2^53

}  // namespace tensometer
