// Two blocks of lanes side by side: their difference, how many are equal, and the sums behind cosine and relative size.
//
// The sums run in 128 float64 lanes like a block's, so products of float32 are exact and need no scaling; float64
// blocks whose products would leave the range are multiplied by a power of two each.
#include "kernels/kernels.hpp"
#include "simd.hpp"

namespace tensometer {
namespace {

struct PairLanes {
  alignas(64) double dot[block_lanes] = {}, old_squares[block_lanes] = {}, new_squares[block_lanes] = {};
};

TENSOMETER_INLINE double fold_doubles(double* lane) {
  for (unsigned width = block_lanes / 2; width > 0; width /= 2) {
    for (unsigned k = 0; k < width; ++k) lane[k] += lane[k + width];
  }
  return lane[0];
}

template <class Lane>
TENSOMETER_INLINE void sum_pairs(const Lane* a, const Lane* b, std::uint32_t count, double scale_a, double scale_b,
                                 PairSums& sums) {
  PairLanes lanes;
  for (std::uint32_t row = 0; row < count; row += block_lanes) {
    const std::uint32_t width = count - row < block_lanes ? count - row : block_lanes;
    for (std::uint32_t k = 0; k < width; ++k) {
      const double x = static_cast<double>(a[row + k]) * scale_a, y = static_cast<double>(b[row + k]) * scale_b;
      const bool finite = __builtin_fabs(x) < infinity && __builtin_fabs(y) < infinity;
      const double u = finite ? x : 0.0, v = finite ? y : 0.0;
      lanes.dot[k] += u * v;
      lanes.old_squares[k] += u * u;
      lanes.new_squares[k] += v * v;
    }
  }
  sums.dot = fold_doubles(lanes.dot);
  sums.old_squares = fold_doubles(lanes.old_squares);
  sums.new_squares = fold_doubles(lanes.new_squares);
}

// The exponent that a block of float64 needs, of the elements that are finite.
TENSOMETER_INLINE int pair_exponent(const double* x, std::uint32_t count) {
  double largest = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const double size = __builtin_fabs(x[i]);
    largest = size < infinity && size > largest ? size : largest;
  }
  return block_exponent<double>(largest);
}

template <class Lane>
void pair_block(const Lane* a, const Lane* b, std::uint32_t count, Lane* difference, PairSums& sums) {
  sums = PairSums{};
  std::uint32_t equal = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    difference[i] = b[i] - a[i];
    equal += (a[i] == b[i]) | ((a[i] != a[i]) & (b[i] != b[i]));
  }
  sums.equal = equal;
  if constexpr (std::is_same_v<Lane, double>) {
    sums.old_exponent = pair_exponent(a, count);
    sums.new_exponent = pair_exponent(b, count);
  }
  sum_pairs(a, b, count, __builtin_ldexp(1.0, -sums.old_exponent), __builtin_ldexp(1.0, -sums.new_exponent), sums);
}

}  // namespace

extern const PairKernels TENSOMETER_CONCAT(pair_kernels_, TENSOMETER_ISA);
const PairKernels TENSOMETER_CONCAT(pair_kernels_, TENSOMETER_ISA) = {&pair_block<float>, &pair_block<double>};

}  // namespace tensometer
