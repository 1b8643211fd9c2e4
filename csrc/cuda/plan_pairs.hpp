// Tables for the kernels that compare, and what came of them.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "compare.hpp"
#include "cuda/pair_tables.hpp"
#include "cuda/plan.hpp"

namespace tensometer::cuda {

// Two tensors in device memory, of one dtype and shape. last: as of tensometer::Pair, a tensor of difference_dtype with as many
// elements one after another; the pair is then an update, whose totals are squares of old elements alone.
struct PairView {
  TensorView old_view, new_view;
  std::optional<TensorView> last;
};

// What came of one pair. Where bins found no room, the histogram is missing.
struct Compared {
  Comparison comparison;
  double along_last = 0;  // 0 without a last difference
  bool bins_lost = false;
};

// As Plan, whose items name pairs here.
struct PairPlan {
  std::vector<TensorPair> pairs;
  std::vector<Item> items;
  std::uint64_t records = 0, counters = 0;
  std::uint32_t shared_bytes = 0;
};

// As plan() of tensors. Throws std::invalid_argument too for pairs that cannot be compared.
PairPlan plan(std::span<const PairView> views, const Options& options, std::uint32_t item_blocks);

// Of what the kernels found of a pair. `words`: its own.
Compared collect(const PairView& view, const Options& options, const PairFound& found, std::span<const BinWord> words);

}  // namespace tensometer::cuda
