// What is known of some pairs of elements, and how two such parts merge.
#pragma once

#include <cmath>
#include <cstdint>

#include "both.hpp"
#include "summary.hpp"

namespace tensometer {

// new - old. Elements are paired in logical order; the sums are over pairs in which both are finite, and carry powers of
// two where float64 products would leave the range.
struct PairTotals {
  std::uint64_t equal = 0;      // equal by value; two NaN count as equal
  std::uint64_t nonfinite = 0;  // not equal, and new - old is NaN or infinite
  double dot = 0, old_squares = 0, new_squares = 0;
  std::int64_t old_exponent = 0, new_exponent = 0;

  bool operator==(const PairTotals&) const = default;
};

struct PairPart {
  Summary summary;  // of the difference
  PairTotals totals;
  double along_last = 0;  // as of Pair
};

TENSOMETER_BOTH inline void raise_exponent(double& dot, double& squares, std::int64_t& exponent, std::int64_t wanted) {
  if (exponent == wanted) return;
  const int shift = static_cast<int>(exponent - wanted);
  dot = std::ldexp(dot, shift);
  squares = std::ldexp(squares, 2 * shift);
  exponent = wanted;
}

// As for Summary: the larger exponent wins, and a side without magnitude takes the other's.
TENSOMETER_BOTH inline std::int64_t common_exponent(double squares_a, std::int64_t a_exponent, double squares_b,
                                                    std::int64_t b_exponent) {
  if (squares_a == 0) return b_exponent;
  return squares_b == 0 || b_exponent < a_exponent ? a_exponent : b_exponent;
}

TENSOMETER_BOTH inline void align(PairTotals& a, PairTotals& b) {
  if (a.old_exponent == b.old_exponent && a.new_exponent == b.new_exponent) return;
  const std::int64_t of_old = common_exponent(a.old_squares, a.old_exponent, b.old_squares, b.old_exponent);
  const std::int64_t of_new = common_exponent(a.new_squares, a.new_exponent, b.new_squares, b.new_exponent);
  raise_exponent(a.dot, a.old_squares, a.old_exponent, of_old);
  raise_exponent(a.dot, a.new_squares, a.new_exponent, of_new);
  raise_exponent(b.dot, b.old_squares, b.old_exponent, of_old);
  raise_exponent(b.dot, b.new_squares, b.new_exponent, of_new);
}

TENSOMETER_BOTH inline void merge(PairTotals& a, PairTotals b) {
  align(a, b);
  a.equal += b.equal;
  a.nonfinite += b.nonfinite;
  a.dot += b.dot;
  a.old_squares += b.old_squares;
  a.new_squares += b.new_squares;
}

TENSOMETER_BOTH inline void merge(PairPart& a, const PairPart& b) {
  merge(a.summary, b.summary);
  merge(a.totals, b.totals);
  a.along_last += b.along_last;
}

}  // namespace tensometer
