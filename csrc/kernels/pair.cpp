// Two blocks of lanes side by side: their difference, how many are equal, and the sums behind cosine and relative size.
//
// The sums run in 128 float64 lanes like a block's, so products of float32 are exact and need no scaling; float64
// blocks whose products would leave the range are multiplied by a power of two each.
#include "kernels/kernels.hpp"
#include "simd.hpp"

namespace tensometer {
namespace {

struct PairLanes {
  alignas(64) double dot[pair_lanes], old_squares[pair_lanes], new_squares[pair_lanes];
};

TENSOMETER_INLINE double fold_doubles(double* lane) {
  for (unsigned width = pair_lanes / 2; width > 0; width /= 2) {
    for (unsigned k = 0; k < width; ++k) lane[k] += lane[k + width];
  }
  return lane[0];
}

TENSOMETER_INLINE VDouble double_lanes(const float* p) { return widen_half(p); }
TENSOMETER_INLINE VDouble double_lanes(const double* p) { return load<VDouble>(p); }

TENSOMETER_INLINE bool both_finite(double x, double y) {
  return (__builtin_fabs(x) < infinity) & (__builtin_fabs(y) < infinity);
}

// Some columns over all whole rows, every sum in a register.
template <bool careful, class Lane>
TENSOMETER_INLINE void sweep_pairs(const Lane* a, const Lane* b, int rows, double scale_a, double scale_b, int column,
                                   PairLanes& out) {
  constexpr int vectors = vector_registers == 32 ? 4 : 2, lanes = Simd<double>::lanes;
  VDouble dot[vectors] = {}, old_squares[vectors] = {}, new_squares[vectors] = {};
  const VDouble limit = broadcast<VDouble>(infinity);
  for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 4
    for (int i = 0; i < vectors; ++i) {
      const int at = row * static_cast<int>(pair_lanes) + column + i * lanes;
      VDouble x = double_lanes(a + at), y = double_lanes(b + at);
      if constexpr (careful) {
        x *= scale_a, y *= scale_b;
        const VInt64 finite = (VInt64)(magnitude<double>(x) < limit) & (VInt64)(magnitude<double>(y) < limit);
        x = select(finite, x, VDouble{}), y = select(finite, y, VDouble{});
      }
      dot[i] += x * y;
      old_squares[i] += x * x;
      new_squares[i] += y * y;
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < vectors; ++i) {
    store(out.dot + column + i * lanes, dot[i]);
    store(out.old_squares + column + i * lanes, old_squares[i]);
    store(out.new_squares + column + i * lanes, new_squares[i]);
  }
}

template <bool careful, class Lane>
TENSOMETER_INLINE void sum_pairs(const Lane* a, const Lane* b, std::uint32_t count, double scale_a, double scale_b,
                                 PairSums& sums) {
  PairLanes lanes;
  constexpr int step = (vector_registers == 32 ? 4 : 2) * Simd<double>::lanes;
  const int rows = static_cast<int>(count / pair_lanes);
  for (int column = 0; column < static_cast<int>(pair_lanes); column += step) {
    sweep_pairs<careful>(a, b, rows, scale_a, scale_b, column, lanes);
  }
  // Pointers to the rest: of a 32-bit index that might wrap around, GCC makes gathers.
  const Lane *rest_a = a + count / pair_lanes * pair_lanes, *rest_b = b + count / pair_lanes * pair_lanes;
  for (std::uint32_t k = 0; k < count % pair_lanes; ++k) {
    double x = static_cast<double>(rest_a[k]) * scale_a, y = static_cast<double>(rest_b[k]) * scale_b;
    if (careful && !both_finite(x, y)) x = y = 0.0;
    lanes.dot[k] += x * y;
    lanes.old_squares[k] += x * x;
    lanes.new_squares[k] += y * y;
  }
  sums.dot = fold_doubles(lanes.dot);
  sums.old_squares = fold_doubles(lanes.old_squares);
  sums.new_squares = fold_doubles(lanes.new_squares);
}

// How far `subtract` fetches ahead of what it reads, into the first cache: the fastest of 0, 2, 4, 8 and 16 KB on Zen 5, a
// fifth faster than 0.
constexpr std::uint32_t bytes_ahead = 4096;

// new - old, and how many pairs are equal (by value, or both NaN) or differ by nothing finite. `next` is what will be read
// after them, and is fetched meanwhile. (To prefetch beyond a tensor's end is harmless.)
template <class Lane>
TENSOMETER_INLINE void subtract(const Lane* a, const Lane* b, const Lane* next, std::uint32_t count, Lane* difference,
                                PairSums& sums) {
  using S = Simd<Lane>;
  using V = typename S::Vector;
  using M = typename S::Mask;
  const V limit = broadcast<V>(static_cast<Lane>(infinity));
  M equal{}, nonfinite{};  // less one for each
  std::uint32_t i = 0;
  for (; i + S::lanes <= count; i += S::lanes) {
    if (i % (64 / sizeof(Lane)) == 0) {
      __builtin_prefetch(a + bytes_ahead / sizeof(Lane) + i, 0, 3);
      __builtin_prefetch(b + bytes_ahead / sizeof(Lane) + i, 0, 3);
      __builtin_prefetch(next + i, 0, 3);
    }
    const V x = load<V>(a + i), y = load<V>(b + i), d = y - x;
    store(difference + i, d);
    const M same = (M)(x == y) | ((M)(x != x) & (M)(y != y));
    equal += same;
    nonfinite += ~(same | (M)(magnitude<Lane>(d) < limit));
  }
  for (; i < count; ++i) {
    difference[i] = b[i] - a[i];
    const bool same = (a[i] == b[i]) | ((a[i] != a[i]) & (b[i] != b[i]));
    sums.equal += same;
    sums.nonfinite += !same && !(__builtin_fabs(static_cast<double>(difference[i])) < infinity);
  }
  alignas(64) typename S::Word lane[2][S::lanes];
  store(lane[0], equal), store(lane[1], nonfinite);
  for (int k = 0; k < S::lanes; ++k) {
    sums.equal -= static_cast<std::uint32_t>(lane[0][k]);
    sums.nonfinite -= static_cast<std::uint32_t>(lane[1][k]);
  }
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

// Squares of float64 within these bounds were neither infinite nor lost; float32 lanes never are.
template <class Lane>
TENSOMETER_INLINE bool in_range(const PairSums& sums) {
  if (!(sums.old_squares < infinity && sums.new_squares < infinity)) return false;
  constexpr double low = smallest_unscaled<double> * smallest_unscaled<double>;
  constexpr double high = largest_unscaled<double> * largest_unscaled<double>;
  return !std::is_same_v<Lane, double> ||
         (sums.old_squares >= low && sums.old_squares < high && sums.new_squares >= low && sums.new_squares < high);
}

template <class Lane>
void pair_block(const Lane* a, const Lane* b, std::uint32_t count, Lane* difference, PairSums& sums) {
  sums = PairSums{};
  subtract(a, b, b, count, difference, sums);
  sum_pairs<false>(a, b, count, 1.0, 1.0, sums);
  if (in_range<Lane>(sums)) return;
  if constexpr (std::is_same_v<Lane, double>) {
    sums.old_exponent = pair_exponent(a, count);
    sums.new_exponent = pair_exponent(b, count);
  }
  sum_pairs<true>(a, b, count, __builtin_ldexp(1.0, -sums.old_exponent), __builtin_ldexp(1.0, -sums.new_exponent),
                  sums);
}

// Squares of `a` and products of `b` and `c`, summed in lanes.
template <class Lane>
TENSOMETER_INLINE double sum_update(const Lane* a, const Lane* b, const Lane* c, std::uint32_t count,
                                    double& squares_of_a) {
  constexpr int vectors = vector_registers == 32 ? 4 : 2, lanes = Simd<double>::lanes;
  const int rows = static_cast<int>(count / pair_lanes);
  alignas(64) double squares[pair_lanes], products[pair_lanes];
  for (int column = 0; column < static_cast<int>(pair_lanes); column += vectors * lanes) {
    VDouble square[vectors] = {}, product[vectors] = {};
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 4
      for (int i = 0; i < vectors; ++i) {
        const int at = row * static_cast<int>(pair_lanes) + column + i * lanes;
        const VDouble x = double_lanes(a + at);
        square[i] += x * x;
        product[i] += double_lanes(b + at) * double_lanes(c + at);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < vectors; ++i) {
      store(squares + column + i * lanes, square[i]);
      store(products + column + i * lanes, product[i]);
    }
  }
  const std::uint32_t whole = count / pair_lanes * pair_lanes;
  const Lane *rest_a = a + whole, *rest_b = b + whole, *rest_c = c + whole;
  for (std::uint32_t k = 0; k < count % pair_lanes; ++k) {
    squares[k] += static_cast<double>(rest_a[k]) * static_cast<double>(rest_a[k]);
    products[k] += static_cast<double>(rest_b[k]) * static_cast<double>(rest_c[k]);
  }
  squares_of_a = fold_doubles(squares);
  return fold_doubles(products);
}

template <class Lane>
double update_block(const Lane* a, const Lane* b, const Lane* last, std::uint32_t count, Lane* difference,
                    PairSums& sums) {
  sums = PairSums{};
  subtract(a, b, last, count, difference, sums);
  const double along_last = sum_update(a, difference, last, count, sums.old_squares);
  sums.new_squares = sums.old_squares;
  // Pairs with something that is not finite in them are left out of the squares: where there may be some, all is done again.
  if (in_range<Lane>(sums) && sums.nonfinite == 0 && along_last - along_last == 0) {
    sums.new_squares = 0;
    return along_last;
  }
  PairSums careful;
  pair_block(a, b, count, difference, careful);
  sums.old_squares = careful.old_squares, sums.old_exponent = careful.old_exponent, sums.new_squares = 0;
  return along_last;
}

}  // namespace

extern const PairKernels TENSOMETER_CONCAT(pair_kernels_, TENSOMETER_ISA);
const PairKernels TENSOMETER_CONCAT(pair_kernels_, TENSOMETER_ISA) = {&pair_block<float>, &pair_block<double>,
                                                                      &update_block<float>, &update_block<double>};

}  // namespace tensometer
