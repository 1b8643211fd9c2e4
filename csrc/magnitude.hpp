// The magnitude of a complex number.
#pragma once

#include <cmath>
#include <limits>

#include "block.hpp"
#include "both.hpp"

namespace tensometer {

// |z| of the magnitudes of its parts: the square root of a sum in float64. An infinite part makes it infinite, otherwise a
// NaN part makes it NaN. The squares of float32 parts always fit; float64 parts out of range are scaled by a power of two,
// and a magnitude beyond the largest float64 is the largest.
TENSOMETER_BOTH static inline double careful_magnitude(double re, double im) {
  if (re == infinity || im == infinity) return infinity;
  if (re != re || im != im) return nan_value;
  const double larger = re < im ? im : re;
  if (larger == 0 || (larger >= smallest_unscaled<double> && larger < largest_unscaled<double>)) {
    return std::sqrt(re * re + im * im);
  }
  const int exponent = std::ilogb(larger);
  const double x = std::ldexp(re, -exponent), y = std::ldexp(im, -exponent);
  const double size = std::ldexp(std::sqrt(x * x + y * y), exponent);
  constexpr double largest = std::numeric_limits<double>::max();
  return largest < size ? largest : size;
}

}  // namespace tensometer
