// One summary for every index along a dimension.
//
// Where neighbouring units are neighbours in memory (the columns of a row-major matrix), reading one unit after another
// would fetch each cache line once per unit. Such units are read in strips: a line's worth of them, a block of each at a
// time, so that a line is fetched once.
#include <algorithm>
#include <cstring>

#include "block.hpp"
#include "pool.hpp"
#include "reduce.hpp"

namespace tensometer {
namespace {

// A strip is one element of each of some neighbouring units: as many as a cache line holds.
constexpr std::size_t strip_bytes = 64;

bool interleaved(const TensorView& view, std::size_t dim) {
  const auto units = static_cast<std::uint64_t>(view.shape[dim]);
  if (units <= 1 || view.strides[dim] != row(view.dtype).item_size || view.count() <= units) return false;
  return !ElementReader(select(view, dim, 0)).dense();  // units that overlap may each lie densely
}

// The summaries of units [first, first + units), which are neighbours in memory.
void summarize_strip(const TensorView& view, std::size_t dim, std::size_t first, std::size_t units,
                     const Options& options, TensorSummary* out) {
  const std::size_t item = row(view.dtype).item_size, strip = units * item;
  const TensorView unit = select(view, dim, static_cast<std::int64_t>(first));
  // In logical order, as a unit that is not dense is read; the strips themselves may well lie densely.
  const ElementReader strips(unit, false, strip);
  std::vector<Partial> partials(units, Partial(view.dtype, options));
  std::vector<std::byte> gathered(block_size * strip), block(block_size * item);
  for (std::uint64_t at = 0; at < strips.count(); at += block_size) {
    const auto size = static_cast<std::uint32_t>(std::min<std::uint64_t>(block_size, strips.count() - at));
    const auto* from = static_cast<const std::byte*>(strips.read(at, size, gathered.data()));
    for (std::size_t u = 0; u < units; ++u, from += item) {
      for (std::uint32_t i = 0; i < size; ++i) std::memcpy(block.data() + i * item, from + i * strip, item);
      const ElementReader elements(block.data(), item, size);
      const Range range{&partials[u], &elements, 0, size};
      reduce({&range, 1}, 1);
    }
  }
  for (std::size_t u = 0; u < units; ++u) out[u] = std::move(partials[u]).finish(unit.shape);
}

}  // namespace

std::vector<SparseView> units_of(const TensorView& view, std::size_t dim, std::size_t first, std::size_t last) {
  std::vector<SparseView> units;
  units.reserve(last - first);
  for (std::size_t i = first; i < last; ++i) {
    TensorView unit = select(view, dim, static_cast<std::int64_t>(i));
    std::vector<std::int64_t> shape = unit.shape;
    units.push_back({std::move(unit), std::move(shape), 0});
  }
  return units;
}

KeptVector<TensorSummary> summarize_units(const TensorView& view, std::size_t dim, const Options& options) {
  const auto count = static_cast<std::size_t>(view.shape[dim]);
  if (interleaved(view, dim)) {
    const std::size_t width = std::max<std::size_t>(1, strip_bytes / row(view.dtype).item_size);
    KeptVector<TensorSummary> results(count);
    parallel_for((count + width - 1) / width, thread_count(options.threads), [&](std::size_t i) {
      summarize_strip(view, dim, i * width, std::min(width, count - i * width), options, results.data() + i * width);
    });
    return results;
  }
  constexpr std::size_t batch = 1024;  // views of a million rows would outweigh their summaries
  KeptVector<TensorSummary> results;
  results.reserve(count);
  for (std::size_t first = 0; first < count; first += batch) {
    const std::vector<SparseView> units = units_of(view, dim, first, std::min(count, first + batch));
    for (TensorSummary& s : summarize(units, options)) results.push_back(std::move(s));
  }
  return results;
}

}  // namespace tensometer
