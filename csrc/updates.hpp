// What an optimizer changed: tensors before and after its step, and how that is directed beside the change before.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "compare.hpp"
#include "kept.hpp"

namespace tensometer {

struct Update {
  TensorSummary difference;
  double ratio, changed_fraction;  // as of Comparison: relative_update and changed_fraction
  double cosine;                   // with the update before; NaN without one, or if either is zero or not finite
};

// What a tracker remembers of the last difference of a tensor.
struct LastUpdate {
  bool known = false;
  double l2 = 0;  // NaN if it was not finite
};

// What a comparison says of an update, whose difference is the last one from then on. along_last: the sum of products with
// the last difference.
Update update_of(Comparison&& comparison, double along_last, LastUpdate& last);

// Keeps a copy of each tensor from before() to after(), and the differences from one after() to the next.
class UpdateTracker {
 public:
  // Copies tensors, in place of those of an earlier call. Throws std::invalid_argument for complex ones.
  void before(std::span<const TensorView> tensors, unsigned threads);
  // One update each. Throws std::invalid_argument, and forgets the copies, if these are not the tensors of before(): as many,
  // of the same dtypes, shapes and orders in memory. Tensors that were others at the last after() have no cosine.
  std::vector<Update> after(std::span<const TensorView> tensors, const Options& options);

  std::size_t size() const { return tracked_.size(); }
  // The difference of one tensor, as lanes of difference_dtype in the order in which the tensor lies in memory.
  struct Difference {
    DType dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::uint32_t> order;  // as of ElementReader
    const std::byte* lanes;
  };
  // Of the last after(). Throws std::out_of_range beyond size(), std::invalid_argument if it failed, or there was none since the
  // last before().
  Difference difference(std::size_t index) const;

 private:
  struct Tracked {
    DType dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::uint32_t> order;
    std::uint64_t count = 0;
    KeptVector<std::byte> copy, last;  // elements; lanes
    LastUpdate last_update;
  };
  std::vector<Tracked> tracked_;
  bool copied_ = false, compared_ = false;
};

}  // namespace tensometer
