#include "cuda/prepared.hpp"

#include <algorithm>
#include <cstring>

namespace tensometer::cuda {
namespace {

bool same(const TensorView& a, const TensorView& b) {
  return a.data == b.data && a.dtype == b.dtype && a.swapped == b.swapped && a.shape == b.shape &&
         a.strides == b.strides;
}

bool same(const PairView& a, const PairView& b) {
  if (a.last.has_value() != b.last.has_value() || (a.last && !same(*a.last, *b.last))) return false;
  return same(a.old_view, b.old_view) && same(a.new_view, b.new_view);
}

bool same(const Options& a, const Options& b) {
  return a.histogram == b.histogram && a.resolution == b.resolution && a.fingerprint == b.fingerprint;
}

template <class View>
bool all_same(std::span<const View> a, std::span<const View> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const View& x, const View& y) { return same(x, y); });
}

bool is_table(const TensorView& view) { return row(view.dtype).lanes == Lanes::table; }

// Most bins that so many elements can be in.
std::uint64_t most_bins(std::uint64_t count, const Options& options) {
  if (options.histogram == HistogramMode::none) return 0;
  return std::min(count, counters_of(options.resolution));
}

template <class Row>
void put_tables(const std::vector<Row>& rows, const std::vector<Item>& items, Prepared& prepared) {
  const std::size_t row_bytes = rows.size() * sizeof(Row), item_bytes = items.size() * sizeof(Item);
  prepared.rows = rows.size(), prepared.items = items.size(), prepared.item_table = row_bytes;
  prepared.tables.resize(row_bytes + item_bytes);
  if (row_bytes != 0) std::memcpy(prepared.tables.data(), rows.data(), row_bytes);
  if (item_bytes != 0) std::memcpy(prepared.tables.data() + row_bytes, items.data(), item_bytes);
}

void check_view(const TensorView& view, const std::string& argument, std::size_t index, const CheckMemory& check) {
  if (view.count() == 0) return;
  if (const std::string why = check(view.data); !why.empty()) throw TensorError(argument, index, why);
}

// All that may not be read are told at once.
void check_all(std::span<const TensorView> tensors, const CheckMemory& check) {
  std::optional<TensorError> refused;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    try {
      check_view(tensors[i], "x", i, check);
    } catch (const TensorError& error) {
      if (refused) {
        refused->more.push_back({i, error.why});
      } else {
        refused.emplace(error);
      }
    }
  }
  if (refused) throw TensorError(*refused);
}

// A result's own bins; nothing if they found no room.
template <class Result>
std::optional<std::span<const std::uint64_t>> bins_of(const Result& result, const Answer& answer) {
  if (result.first_bin + result.bins > answer.room) return std::nullopt;
  if (result.bins == 0) return std::span<const std::uint64_t>();
  return std::span(answer.bins + result.first_bin, result.bins);
}

Options without_histogram(Options options) {
  options.histogram = HistogramMode::none;
  return options;
}

}  // namespace

std::shared_ptr<const Prepared> prepare(std::span<const TensorView> tensors, const Options& options,
                                        std::uint32_t concurrent, std::uint64_t bins, const CheckMemory& check) {
  auto prepared = std::make_shared<Prepared>();
  const Plan made = plan(tensors, options, item_blocks_for(tensors, concurrent));
  put_tables(made.tensors, made.items, *prepared);
  check_all(tensors, check);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const bool table = is_table(tensors[i]);
    const std::uint64_t count = tensors[i].count();
    const std::uint64_t most = table ? std::min(count, byte_counters) : most_bins(count, options);
    prepared->most_room += most;
    prepared->first_room += table ? most : std::min(most, bins);
    if (table) prepared->bytes_room += most;
  }
  prepared->tensors.assign(tensors.begin(), tensors.end());
  prepared->options = options;
  prepared->record_bytes = made.records * sizeof(Summary), prepared->result_bytes = tensors.size() * sizeof(Result);
  prepared->counters = made.counters, prepared->shared_bytes = made.shared_bytes;
  return prepared;
}

std::shared_ptr<const Prepared> prepare(std::span<const PairView> pairs, const Options& options,
                                        std::uint32_t concurrent, std::uint64_t bins, const CheckMemory& check) {
  auto prepared = std::make_shared<Prepared>();
  std::vector<TensorView> old_ones;
  for (const PairView& pair : pairs) old_ones.push_back(pair.old_view);
  const PairPlan made = plan(pairs, options, item_blocks_for(old_ones, concurrent));
  put_tables(made.pairs, made.items, *prepared);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    check_view(pairs[i].old_view, "old", i, check);
    check_view(pairs[i].new_view, "new", i, check);
    if (pairs[i].last) check_view(*pairs[i].last, "last", i, check);
    const std::uint64_t most = most_bins(pairs[i].old_view.count(), options);
    prepared->most_room += most;
    prepared->first_room += std::min(most, bins);
  }
  prepared->pairs.assign(pairs.begin(), pairs.end());
  prepared->compares = true;
  prepared->options = options;
  prepared->record_bytes = made.records * sizeof(PairPart), prepared->result_bytes = pairs.size() * sizeof(PairFound);
  prepared->counters = made.counters, prepared->shared_bytes = made.shared_bytes;
  return prepared;
}

bool is_of(const Prepared& prepared, std::span<const TensorView> tensors, const Options& options) {
  return !prepared.compares && same(prepared.options, options) && all_same<TensorView>(prepared.tensors, tensors);
}

bool is_of(const Prepared& prepared, std::span<const PairView> pairs, const Options& options) {
  return prepared.compares && same(prepared.options, options) && all_same<PairView>(prepared.pairs, pairs);
}

std::vector<Found> found_tensors(const Prepared& prepared, const Answer& answer) {
  std::vector<Found> all;
  all.reserve(prepared.tensors.size());
  for (std::size_t i = 0; i < prepared.tensors.size(); ++i) {
    const Result& result = reinterpret_cast<const Result*>(answer.results)[i];
    const TensorView& view = prepared.tensors[i];
    const auto bins = bins_of(result, answer);
    const Options& options = prepared.options;
    all.push_back(
        {bins ? collect(view, options, result, *bins) : collect(view, without_histogram(options), result, {}), !bins});
  }
  return all;
}

std::vector<Compared> found_pairs(const Prepared& prepared, const Answer& answer) {
  std::vector<Compared> all;
  all.reserve(prepared.pairs.size());
  for (std::size_t i = 0; i < prepared.pairs.size(); ++i) {
    const PairFound& found = reinterpret_cast<const PairFound*>(answer.results)[i];
    const auto bins = bins_of(found, answer);
    const Options& options = prepared.options;
    all.push_back(bins ? collect(prepared.pairs[i], options, found, *bins)
                       : collect(prepared.pairs[i], without_histogram(options), found, {}));
    all.back().bins_lost = !bins;
  }
  return all;
}

}  // namespace tensometer::cuda
