#include "cuda/plan_pairs.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace tensometer::cuda {
namespace {

// Throws std::invalid_argument unless it is what PairView says.
void check_last(const PairView& view) {
  const DType wanted = difference_dtype(view.old_view.dtype);
  if (view.last->dtype != wanted) {
    throw std::invalid_argument("last: has dtype " + std::string(row(view.last->dtype).name) + ", the difference has " +
                                std::string(row(wanted).name));
  }
  if (view.last->count() != view.old_view.count()) {
    throw std::invalid_argument("last: has " + std::to_string(view.last->count()) + " elements, old has " +
                                std::to_string(view.old_view.count()));
  }
  if (view.last->swapped || !ElementReader(*view.last).dense()) {
    throw std::invalid_argument("last: its elements do not lie one after another in this machine's byte order");
  }
}

TensorPair pair_entry(const PairView& view, const Options& options, std::size_t index) {
  check_pair(view.old_view, view.new_view);
  // Laid out alike, both may be read in memory order; otherwise only logical order pairs the same elements.
  const bool alike = view.old_view.strides == view.new_view.strides;
  TensorPair pair{};
  pair.tensors[0] = entry(view.old_view, ElementReader(view.old_view, alike), options, "old", index);
  pair.tensors[1] = entry(view.new_view, ElementReader(view.new_view, alike), options, "new", index);
  if (view.last) {
    check_last(view);
    pair.last = const_cast<std::byte*>(view.last->data);
  }
  return pair;
}

}  // namespace

PairPlan plan(std::span<const PairView> views, const Options& options, std::uint32_t item_blocks) {
  PairPlan plan;
  const bool counts = options.histogram != HistogramMode::none;
  const std::uint64_t counters = counts ? counters_of(options.resolution) : 0;
  for (const PairView& view : views) {
    TensorPair pair = pair_entry(view, options, plan.pairs.size());
    pair.tensors[0].grouped = item_blocks == fold_width;
    pair.tensors[0].first_record = plan.records;
    pair.tensors[0].first_counter = plan.counters;
    plan.counters += counters;
    plan.records +=
        cut_into_items(pair.tensors[0], static_cast<std::uint32_t>(plan.pairs.size()), item_blocks, plan.items);
    plan.pairs.push_back(pair);
  }
  const std::uint64_t shared = options.resolution <= shared_resolution ? counters : 0;
  plan.shared_bytes = static_cast<std::uint32_t>(sizeof(PairShared) + shared * sizeof(std::uint32_t));
  return plan;
}

Compared collect(const PairView& view, const Options& options, const PairFound& found, std::span<const BinWord> words) {
  PairResult result;
  if (options.histogram != HistogramMode::none) result.histogram = histogram_of(words, options.resolution);
  result.whole = found.whole;
  Compared compared;
  compared.along_last = found.whole.along_last;
  compared.comparison.totals = found.whole.totals;
  compared.comparison.difference = difference_of(std::move(result), view.old_view.dtype, view.old_view.shape, options);
  return compared;
}

}  // namespace tensometer::cuda
