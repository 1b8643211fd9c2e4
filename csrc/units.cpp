#include "reduce.hpp"

namespace tensometer {

std::vector<TensorSummary> summarize_units(const TensorView& view, std::size_t dim, const Options& options) {
  std::vector<SparseView> units;
  units.reserve(static_cast<std::size_t>(view.shape[dim]));
  for (std::int64_t i = 0; i < view.shape[dim]; ++i) {
    TensorView unit = select(view, dim, i);
    std::vector<std::int64_t> shape = unit.shape;
    units.push_back({std::move(unit), std::move(shape), 0});
  }
  return summarize(units, options);
}

}  // namespace tensometer
