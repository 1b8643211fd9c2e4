// Pairs of tensors for the tests of kernels and launcher, and what the engine on the CPU says of them.
#pragma once

#include "../core/data.hpp"
#include "compare.hpp"
#include "cuda/plan_pairs.hpp"

namespace tensometer {

using cuda::Compared;
using cuda::PairView;

// What the CPU finds, and leaves in the place of the last difference.
inline Compared expected_of(const PairView& view, const Options& options) {
  const bool alike = view.old_view.strides == view.new_view.strides;
  const ElementReader a(view.old_view, alike), b(view.new_view, alike);
  Pair pair{&a, &b, view.old_view.dtype};
  if (view.last) pair.last = const_cast<std::byte*>(view.last->data);
  PairResult found = std::move(compare(std::span(&pair, 1), options).front());
  Compared compared;
  compared.comparison.totals = found.whole.totals;
  compared.along_last = found.whole.along_last;
  compared.comparison.difference = difference_of(std::move(found), view.old_view.dtype, view.old_view.shape, options);
  return compared;
}

// In any bit, but for those of a NaN.
inline std::string how_it_differs(const Compared& found, const Compared& expected) {
  const PairTotals &a = found.comparison.totals, &b = expected.comparison.totals;
  std::string text = difference(found.comparison.difference.summary, expected.comparison.difference.summary);
#define TENSOMETER_COMPARE(field) \
  if (!same_bits(a.field, b.field)) text += check::text("; " #field " is ", a.field, " and not ", b.field);
  TENSOMETER_COMPARE(equal)
  TENSOMETER_COMPARE(nonfinite)
  TENSOMETER_COMPARE(dot)
  TENSOMETER_COMPARE(old_squares)
  TENSOMETER_COMPARE(new_squares)
  TENSOMETER_COMPARE(old_exponent)
  TENSOMETER_COMPARE(new_exponent)
#undef TENSOMETER_COMPARE
  const double x = found.along_last, y = expected.along_last;
  if (!same_bits(x, y) && (x == x || y == y)) text += check::text("; along_last is ", x, " and not ", y);
  if (found.bins_lost) text += "; bins are lost";
  if (found.comparison.difference.histogram != expected.comparison.difference.histogram) text += "; another histogram";
  if (text.empty() && !(found.comparison == expected.comparison)) text = "another shape or type";
  return text;
}

// An element of another tensor at its place: often the same one, else near it or any.
template <class T>
T beside(T element, Random& random) {
  switch (random.below(4)) {
  case 0:
    return element;
  case 1:
    return ordinary<T>(random);
  default: {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &element, sizeof element);
    bits += random.below(7) - 3;
    std::memcpy(&element, &bits, sizeof element);
    return element;
  }
  }
}

template <class T>
std::vector<T> beside(const std::vector<T>& elements, std::uint64_t seed) {
  Random random(seed);
  std::vector<T> others;
  for (const T element : elements) others.push_back(beside(element, random));
  return others;
}

// Lanes of a last difference, one in eight of them zero.
inline std::vector<std::byte> last_lanes(DType dtype, std::size_t count, std::uint64_t seed) {
  if (difference_dtype(dtype) == DType::k_float32) return bytes_of(ordinary_elements<float>(count, seed));
  return bytes_of(ordinary_elements<double>(count, seed));
}

}  // namespace tensometer
