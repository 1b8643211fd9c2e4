#include "updates.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "dispatch.hpp"
#include "pool.hpp"

namespace tensometer {
namespace {

// What a thread copies at a time: long enough (about 50 microseconds) that handing it out does not count.
constexpr std::uint64_t copied_bytes = std::uint64_t{1} << 20;

struct Copy {
  const ElementReader* from;
  std::byte* to;
  std::uint64_t first;
  std::uint32_t count;
  std::size_t item_size;
};

void run(const Copy& copy) {
  std::byte* to = copy.to + copy.first * copy.item_size;
  const void* from = copy.from->read(copy.first, copy.count, to);
  if (from != to) std::memcpy(to, from, copy.count * copy.item_size);
}

double cosine(double along_last, double l2, double last_l2) {
  const double size = l2 * last_l2;
  if (!(size > 0) || !(size < infinity)) return nan_value;
  const double result = along_last / size;
  return result == result ? std::clamp(result, -1.0, 1.0) : nan_value;
}

}  // namespace

Update update_of(Comparison&& comparison, double along_last, LastUpdate& last) {
  const FloatEnvironment environment;
  const double l2 = comparison.totals.nonfinite == 0 ? comparison.difference.summary.l2() : nan_value;
  const double direction = last.known ? cosine(along_last, l2, last.l2) : nan_value;
  const double ratio = comparison.relative_update(), changed = comparison.changed_fraction();
  last = {true, l2};
  return {std::move(comparison.difference), ratio, changed, direction};
}

void UpdateTracker::before(std::span<const TensorView> tensors, unsigned threads) {
  for (const TensorView& view : tensors) {
    if (row(view.dtype).lanes == Lanes::magnitude) {
      throw std::invalid_argument("tensors: complex ones are not tracked; take their real and imaginary parts");
    }
  }
  copied_ = compared_ = false;
  std::vector<ElementReader> readers(tensors.begin(), tensors.end());
  std::vector<Copy> copies;
  tracked_.resize(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorView& view = tensors[i];
    Tracked& one = tracked_[i];
    const std::size_t item_size = row(view.dtype).item_size;
    if (one.count == 0 || one.dtype != view.dtype || one.shape != view.shape || one.order != readers[i].order()) {
      const std::uint64_t count = readers[i].count();
      one = {view.dtype,
             view.shape,
             readers[i].order(),
             count,
             KeptVector<std::byte>(count * item_size),
             KeptVector<std::byte>(count * row(difference_dtype(view.dtype)).item_size),
             {}};
    }
    const std::uint64_t most = copied_bytes / item_size;
    for (std::uint64_t first = 0; first < one.count; first += most) {
      const auto count = static_cast<std::uint32_t>(std::min(most, one.count - first));
      copies.push_back({&readers[i], one.copy.data(), first, count, item_size});
    }
  }
  parallel_for(copies.size(), copies.size() < 2 ? 1 : thread_count(threads), [&](std::size_t i) { run(copies[i]); });
  copied_ = true;
}

std::vector<Update> UpdateTracker::after(std::span<const TensorView> tensors, const Options& options) {
  if (!std::exchange(copied_, false) || tensors.size() != tracked_.size()) {
    throw std::invalid_argument("tensors: " + std::to_string(tensors.size()) + " given, which before() has not copied");
  }
  const std::vector<ElementReader> now(tensors.begin(), tensors.end());
  std::vector<ElementReader> then;
  std::vector<Pair> pairs;
  then.reserve(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    Tracked& one = tracked_[i];
    if (one.dtype != tensors[i].dtype || one.shape != tensors[i].shape || one.order != now[i].order()) {
      throw std::invalid_argument("tensors[" + std::to_string(i) + "]: is not the one that before() copied");
    }
    then.emplace_back(one.copy.data(), row(one.dtype).item_size, one.count);
    pairs.push_back({&then.back(), &now[i], one.dtype, one.last.data()});
  }
  std::vector<PairResult> results = compare(pairs, options);
  std::vector<Update> updates(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    Tracked& one = tracked_[i];
    const double along_last = results[i].whole.along_last;
    Comparison all;
    all.totals = results[i].whole.totals;
    all.difference = difference_of(std::move(results[i]), one.dtype, one.shape, options);
    updates[i] = update_of(std::move(all), along_last, one.last_update);
  }
  compared_ = true;
  return updates;
}

UpdateTracker::Difference UpdateTracker::difference(std::size_t index) const {
  const Tracked& one = tracked_.at(index);
  if (!compared_) throw std::invalid_argument("index: there was no after() since before()");
  return {difference_dtype(one.dtype), one.shape, one.order, one.last.data()};
}

}  // namespace tensometer
