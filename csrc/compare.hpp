// Two tensors of one dtype and shape, element by element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "reduce.hpp"

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

struct Comparison {
  TensorSummary difference;  // float32 for types with float32 lanes and one-byte types, float64 otherwise
  PairTotals totals;

  bool operator==(const Comparison&) const = default;

  std::uint64_t count() const { return difference.summary.count; }
  std::uint64_t changed() const { return count() - totals.equal; }
  // NaN for empty tensors.
  double changed_fraction() const;
  // |new - old| / |old|; 0 if nothing changed, infinite if old is all zero and new is not, or if totals.nonfinite is not 0.
  double relative_update() const;
  // Infinite if totals.nonfinite is not 0.
  double max_abs_difference() const;
  // NaN if either is all zero. Within [-1, 1].
  double cosine() const;
  double old_l2() const;
  double new_l2() const;
};

// Two sequences of as many elements of one dtype, not complex. `last`, if not null, holds as many lanes of the difference's
// type: the sum of their products with the difference is `along_last`, and the difference takes their place.
struct Pair {
  const ElementReader* old_elements;
  const ElementReader* new_elements;
  DType dtype;
  std::byte* last = nullptr;
};
struct PairPart {
  Summary summary;  // of the difference
  PairTotals totals;
  double along_last = 0;
};
void merge(PairPart& a, const PairPart& b);
struct PairResult {
  PairPart whole;
  LogHistogram histogram;
};

// float32 for types with float32 lanes and one-byte types, float64 otherwise.
DType difference_dtype(DType dtype);

std::vector<PairResult> compare(std::span<const Pair> pairs, const Options& options);

// A finished difference of that shape.
TensorSummary difference_of(PairResult&& result, DType dtype, std::span<const std::int64_t> shape,
                            const Options& options);

// Throws std::invalid_argument if dtypes or shapes differ or if the dtype is complex.
Comparison compare(const TensorView& old_view, const TensorView& new_view, const Options& options);

// Both as one comparison; as for summaries, exact but for float64 rounding of moments and sums.
Comparison merge(const Comparison& a, const Comparison& b);

}  // namespace tensometer
