// What the bytes of one-byte types mean.
#pragma once

#include "block.hpp"
#include "both.hpp"
#include "dtype.hpp"

namespace tensometer {

struct Float8 {
  int exponent_bits, mantissa_bits, bias;
  bool infinities;     // IEEE-like: an all-ones exponent is not finite
  bool unsigned_zero;  // fnuz: the pattern of -0 is the only NaN
};

TENSOMETER_BOTH static inline double decode(const Float8& format, unsigned byte) {
  const unsigned mantissa_mask = (1u << format.mantissa_bits) - 1, exponent_mask = (1u << format.exponent_bits) - 1;
  const unsigned mantissa = byte & mantissa_mask, exponent = (byte >> format.mantissa_bits) & exponent_mask;
  const double sign = byte & 0x80u ? -1.0 : 1.0;
  if (format.unsigned_zero && byte == 0x80u) return nan_value;
  if (format.infinities && exponent == exponent_mask) return mantissa == 0 ? sign * infinity : nan_value;
  if (!format.infinities && !format.unsigned_zero && (byte & 0x7fu) == 0x7fu) return nan_value;
  const unsigned hidden = exponent == 0 ? 0 : mantissa_mask + 1;
  const int power = static_cast<int>(exponent == 0 ? 1 : exponent) - format.bias - format.mantissa_bits;
  return sign * static_cast<double>(hidden + mantissa) * power_of_two(power);
}

// The value of a byte of a one-byte type; NaN and infinities as such.
TENSOMETER_BOTH static inline double value_of_byte(DType dtype, unsigned byte) {
  Float8 format{4, 3, 7, false, false};
  switch (dtype) {
  case DType::k_float8_e4m3fn:
    break;
  case DType::k_float8_e5m2:
    format = {5, 2, 15, true, false};
    break;
  case DType::k_float8_e4m3fnuz:
    format = {4, 3, 8, false, true};
    break;
  case DType::k_float8_e5m2fnuz:
    format = {5, 2, 16, false, true};
    break;
  case DType::k_bool:
    return byte != 0;
  case DType::k_int8:
    return static_cast<std::int8_t>(byte);
  default:
    return byte;
  }
  return decode(format, byte);
}

}  // namespace tensometer
