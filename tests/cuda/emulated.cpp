#include "emulated.hpp"

#include "cuda/kernels.cu"
#include "dispatch.hpp"
#include "state.hpp"

namespace tensometer::cuda {

std::vector<TensorSummary> emulate(const std::vector<TensorView>& views, const Options& options, const Emulated& how) {
  const FloatEnvironment environment;
  const Plan all = plan(views, options, how.item_blocks);
  std::vector<Summary> records(all.records);
  std::vector<unsigned long long> counters(all.counters);
  std::vector<std::uint64_t> hashes(views.size());
  std::vector<Result> results(views.size());
  std::vector<std::uint64_t> bins(all.counters);
  std::uint64_t used[2] = {0, 0};
  emulation::Launch grid{static_cast<unsigned>(all.items.size()), reduce_threads, all.shared_bytes, how.schedule,
                         how.seed};
  emulation::launch(grid, [&] {
    tensometer_reduce(all.tensors.data(), all.items.data(), records.data(), counters.data(), hashes.data());
  });
  std::uint64_t bytes_room = 0;
  for (const TensorView& view : views) bytes_room += row(view.dtype).lanes == Lanes::table ? byte_counters : 0;
  const Output output{results.data(), bins.data(), used, bins.size(), bytes_room};
  grid.blocks = static_cast<unsigned>(views.size()), grid.threads = finish_threads;
  grid.shared_bytes = sizeof(FinishShared);
  emulation::launch(
      grid, [&] { tensometer_finish(all.tensors.data(), records.data(), counters.data(), hashes.data(), output); });
  for (const unsigned long long left : counters) {
    if (left != 0) throw emulation::EmulationError("counters are not zero behind a launch");
  }
  std::vector<TensorSummary> summaries;
  for (std::size_t i = 0; i < views.size(); ++i) {
    summaries.push_back(
        collect(views[i], options, results[i], std::span(bins).subspan(results[i].first_bin, results[i].bins)));
  }
  return summaries;
}

std::vector<Compared> emulate_pairs(const std::vector<PairView>& views, const Options& options, const Emulated& how) {
  const FloatEnvironment environment;
  const PairPlan all = plan(views, options, how.item_blocks);
  std::vector<PairPart> records(all.records);
  std::vector<unsigned long long> counters(all.counters);
  std::vector<PairFound> results(views.size());
  std::vector<std::uint64_t> bins(all.counters);
  std::uint64_t used[2] = {0, 0};
  emulation::Launch grid{static_cast<unsigned>(all.items.size()), reduce_threads, all.shared_bytes, how.schedule,
                         how.seed};
  emulation::launch(grid,
                    [&] { tensometer_compare(all.pairs.data(), all.items.data(), records.data(), counters.data()); });
  const OutputOf<PairFound> output{results.data(), bins.data(), used, bins.size(), 0};
  grid.blocks = static_cast<unsigned>(views.size()), grid.threads = finish_threads;
  grid.shared_bytes = sizeof(FinishShared);
  emulation::launch(grid, [&] { tensometer_finish_pairs(all.pairs.data(), records.data(), counters.data(), output); });
  for (const unsigned long long left : counters) {
    if (left != 0) throw emulation::EmulationError("counters are not zero behind a launch");
  }
  std::vector<Compared> compared;
  for (std::size_t i = 0; i < views.size(); ++i) {
    compared.push_back(
        collect(views[i], options, results[i], std::span(bins).subspan(results[i].first_bin, results[i].bins)));
  }
  return compared;
}

}  // namespace tensometer::cuda
