#include "emulated.hpp"

#include "cuda/kernels.cu"
#include "dispatch.hpp"
#include "state.hpp"

namespace tensometer::cuda {
namespace {

// What the kernels leave of a plan of tensors or pieces.
struct Left {
  std::vector<Result> results;
  std::vector<BinWord> words;

  std::span<const BinWord> words_of(std::size_t row) const {
    return std::span(words).subspan(results[row].first_word, results[row].words);
  }
};

// Room for the words of all tensors of one-byte types, or of all others, as the launcher makes it.
std::uint64_t room_of(const Plan& all, bool bytes) {
  std::uint64_t room = 0, count = 0;
  for (auto tensor = all.tensors.rbegin(); tensor != all.tensors.rend(); ++tensor) {
    count += tensor->count;
    if (tensor->joined != 0) continue;
    if (is_counted(*tensor) && is_bytes(*tensor) == bytes) room += most_words(count, counter_count(*tensor));
    count = 0;
  }
  return room;
}

Left launch(const Plan& all, const Emulated& how) {
  std::vector<Summary> records(all.records);
  std::vector<unsigned long long> counters(all.counters);
  std::vector<std::uint64_t> hashes(all.tensors.size());
  const std::uint64_t bytes_room = room_of(all, true);
  Left left{std::vector<Result>(all.tensors.size()), std::vector<BinWord>(bytes_room + room_of(all, false))};
  std::uint64_t used[2] = {0, 0};
  emulation::Launch grid{static_cast<unsigned>(all.items.size()), reduce_threads, all.shared_bytes, how.schedule,
                         how.seed};
  emulation::launch(grid, [&] {
    tensometer_reduce(all.tensors.data(), all.items.data(), records.data(), counters.data(), hashes.data());
  });
  const Output output{left.results.data(), left.words.data(), used, left.words.size(), bytes_room};
  grid.blocks = static_cast<unsigned>(all.tensors.size()), grid.threads = finish_threads;
  grid.shared_bytes = sizeof(FinishShared);
  emulation::launch(
      grid, [&] { tensometer_finish(all.tensors.data(), records.data(), counters.data(), hashes.data(), output); });
  for (const unsigned long long count : counters) {
    if (count != 0) throw emulation::EmulationError("counters are not zero behind a launch");
  }
  return left;
}

}  // namespace

std::vector<TensorSummary> emulate(const std::vector<TensorView>& views, const Options& options, const Emulated& how) {
  const FloatEnvironment environment;
  const Left left = launch(plan(views, options, how.item_blocks), how);
  std::vector<TensorSummary> summaries;
  for (std::size_t i = 0; i < views.size(); ++i) {
    summaries.push_back(collect(views[i], options, left.results[i], left.words_of(i)));
  }
  return summaries;
}

std::vector<ReducedPiece> emulate_pieces(const std::vector<PieceView>& views, const Options& options,
                                         const Emulated& how) {
  const FloatEnvironment environment;
  const Left left = launch(plan(views, options, how.item_blocks), how);
  std::vector<ReducedPiece> pieces;
  std::size_t row = 0;
  for (const PieceView& view : views) {
    const auto rows = std::span(left.results).subspan(row, runs_of(view.cut).size());
    const auto words = rows.empty() ? std::span<const BinWord>() : left.words_of(row);
    pieces.push_back(collect(view, options, rows, words, ends_of(view)));
    row += rows.size();
  }
  return pieces;
}

std::vector<Compared> emulate_pairs(const std::vector<PairView>& views, const Options& options, const Emulated& how) {
  const FloatEnvironment environment;
  const PairPlan all = plan(views, options, how.item_blocks);
  std::vector<PairPart> records(all.records);
  std::vector<unsigned long long> counters(all.counters);
  std::vector<PairFound> results(views.size());
  std::uint64_t room = 0;
  for (const TensorPair& pair : all.pairs) {
    if (is_counted(pair.tensors[0])) room += most_words(pair.tensors[0].count, counters_of(options.resolution));
  }
  std::vector<BinWord> words(room);
  std::uint64_t used[2] = {0, 0};
  emulation::Launch grid{static_cast<unsigned>(all.items.size()), reduce_threads, all.shared_bytes, how.schedule,
                         how.seed};
  emulation::launch(grid,
                    [&] { tensometer_compare(all.pairs.data(), all.items.data(), records.data(), counters.data()); });
  const OutputOf<PairFound> output{results.data(), words.data(), used, words.size(), 0};
  grid.blocks = static_cast<unsigned>(views.size()), grid.threads = finish_threads;
  grid.shared_bytes = sizeof(FinishShared);
  emulation::launch(grid, [&] { tensometer_finish_pairs(all.pairs.data(), records.data(), counters.data(), output); });
  for (const unsigned long long left : counters) {
    if (left != 0) throw emulation::EmulationError("counters are not zero behind a launch");
  }
  std::vector<Compared> compared;
  for (std::size_t i = 0; i < views.size(); ++i) {
    compared.push_back(
        collect(views[i], options, results[i], std::span(words).subspan(results[i].first_word, results[i].words)));
  }
  return compared;
}

Taken emulate_taking(const std::vector<Counted>& all, std::uint64_t room, std::uint64_t bytes_room,
                     const Emulated& how) {
  std::vector<Tensor> tensors;
  std::vector<unsigned long long> counters;
  for (const Counted& one : all) {
    Tensor tensor{};
    tensor.dtype = static_cast<std::uint8_t>(one.dtype);
    tensor.histogram = static_cast<std::uint8_t>(HistogramMode::full);
    tensor.resolution = static_cast<std::uint8_t>(one.resolution);
    tensor.first_counter = counters.size();
    tensors.push_back(tensor);
    counters.insert(counters.end(), one.counters.begin(), one.counters.end());
  }
  std::vector<std::uint64_t> hashes(all.size());
  Taken taken{std::vector<Result>(all.size()), std::vector<BinWord>(room)};
  std::uint64_t used[2] = {0, 0};
  const Output output{taken.results.data(), taken.words.data(), used, room, bytes_room};
  const emulation::Launch grid{static_cast<unsigned>(all.size()), finish_threads, sizeof(FinishShared), how.schedule,
                               how.seed};
  emulation::launch(grid, [&] { tensometer_finish(tensors.data(), nullptr, counters.data(), hashes.data(), output); });
  for (const unsigned long long count : counters) {
    if (count != 0) throw emulation::EmulationError("counters are not zero behind a launch");
  }
  return taken;
}

}  // namespace tensometer::cuda
