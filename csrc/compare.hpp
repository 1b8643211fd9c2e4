// Two tensors of one dtype and shape, element by element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pair_part.hpp"
#include "reduce.hpp"

namespace tensometer {

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

// Throw std::invalid_argument if dtypes or shapes differ or if the dtype is complex.
void check_pair(const TensorView& old_view, const TensorView& new_view);
Comparison compare(const TensorView& old_view, const TensorView& new_view, const Options& options);

// Both as one comparison; as for summaries, exact but for float64 rounding of moments and sums.
Comparison merge(const Comparison& a, const Comparison& b);

}  // namespace tensometer
