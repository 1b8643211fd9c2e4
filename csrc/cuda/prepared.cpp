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

bool same(const PieceView& a, const PieceView& b) { return a.cut == b.cut && same(a.elements, b.elements); }

bool same(const Options& a, const Options& b) {
  return a.histogram == b.histogram && a.resolution == b.resolution && a.fingerprint == b.fingerprint;
}

template <class View>
bool is_of_these(const Prepared& prepared, std::span<const View> views, const Options& options) {
  const std::vector<View>* own = prepared.views_of<View>();
  return own != nullptr && same(prepared.options, options) &&
         std::equal(own->begin(), own->end(), views.begin(), views.end(),
                    [](const View& a, const View& b) { return same(a, b); });
}

// Room for the words of a histogram of so many elements; for `words` of them at first.
void add_room(std::uint64_t count, std::uint64_t words, Prepared& prepared) {
  if (prepared.options.histogram == HistogramMode::none) return;
  const std::uint64_t most = most_words(count, counters_of(prepared.options.resolution));
  prepared.most_room += most;
  prepared.first_room += std::min(most, words);
}

// The same of a tensor, for all of a one-byte type at once.
void add_room(DType dtype, std::uint64_t count, std::uint64_t words, Prepared& prepared) {
  if (row(dtype).lanes != Lanes::table) return add_room(count, words, prepared);
  const std::uint64_t most = most_words(count, byte_counters);
  prepared.most_room += most;
  prepared.first_room += most;
  prepared.bytes_room += most;
}

template <class Row>
void put_tables(const std::vector<Row>& rows, const std::vector<Item>& items, Prepared& prepared) {
  const std::size_t row_bytes = rows.size() * sizeof(Row), item_bytes = items.size() * sizeof(Item);
  prepared.rows = rows.size(), prepared.items = items.size(), prepared.item_table = row_bytes;
  prepared.tables.resize(row_bytes + item_bytes);
  if (row_bytes != 0) std::memcpy(prepared.tables.data(), rows.data(), row_bytes);
  if (item_bytes != 0) std::memcpy(prepared.tables.data() + row_bytes, items.data(), item_bytes);
}

void put_plan(const Plan& made, Prepared& prepared) {
  put_tables(made.tensors, made.items, prepared);
  prepared.record_bytes = made.records * sizeof(Summary), prepared.result_bytes = made.tensors.size() * sizeof(Result);
  prepared.counters = made.counters, prepared.shared_bytes = made.shared_bytes;
}

// Why it may not be read; nothing if it may.
std::string fault_of(const TensorView& view, const CheckMemory& check) {
  return view.count() == 0 ? std::string() : check(view.data);
}

void check_view(const TensorView& view, const std::string& argument, std::size_t index, const CheckMemory& check) {
  if (const std::string why = fault_of(view, check); !why.empty()) throw TensorError(argument, index, why);
}

// All that may not be read are told at once.
void check_all(std::span<const TensorView> tensors, const CheckMemory& check) {
  std::optional<TensorError> refused;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string why = fault_of(tensors[i], check);
    if (why.empty()) continue;
    if (refused) {
      refused->more.push_back({i, why});
    } else {
      refused.emplace("x", i, why);
    }
  }
  if (refused) throw TensorError(*refused);
}

// A result's own words; nothing if they found no room.
template <class Result>
std::optional<std::span<const BinWord>> words_of(const Result& result, const Answer& answer) {
  if (result.first_word + result.words > answer.room) return std::nullopt;
  if (result.words == 0) return std::span<const BinWord>();
  return std::span(answer.words + result.first_word, result.words);
}

Options without_histogram(Options options) {
  options.histogram = HistogramMode::none;
  return options;
}

}  // namespace

std::shared_ptr<const Prepared> prepare(std::span<const TensorView> tensors, const Options& options,
                                        std::uint32_t concurrent, std::uint64_t words, const CheckMemory& check) {
  auto prepared = std::make_shared<Prepared>();
  prepared->options = options;
  put_plan(plan(tensors, options, item_blocks_for(tensors, concurrent)), *prepared);
  check_all(tensors, check);
  for (const TensorView& view : tensors) add_room(view.dtype, view.count(), words, *prepared);
  prepared->views = std::vector(tensors.begin(), tensors.end());
  return prepared;
}

std::shared_ptr<const Prepared> prepare(std::span<const PieceView> pieces, const Options& options,
                                        std::uint32_t concurrent, std::uint64_t words, const CheckMemory& check) {
  auto prepared = std::make_shared<Prepared>();
  prepared->options = options;
  std::vector<TensorView> elements;
  for (const PieceView& piece : pieces) elements.push_back(piece.elements);
  put_plan(plan(pieces, options, item_blocks_for(elements, concurrent)), *prepared);
  check_all(elements, check);
  for (const PieceView& piece : pieces) {
    add_room(piece.elements.dtype, piece.cut.blocks * block_size, words, *prepared);
    const Ends ends = ends_of(piece);
    for (const std::span<const std::byte> end : {ends.head, ends.tail}) {
      prepared->copied.push_back(end);
      prepared->copied_bytes += end.size();
    }
  }
  prepared->views = std::vector(pieces.begin(), pieces.end());
  return prepared;
}

std::shared_ptr<const Prepared> prepare(std::span<const PairView> pairs, const Options& options,
                                        std::uint32_t concurrent, std::uint64_t words, const CheckMemory& check) {
  auto prepared = std::make_shared<Prepared>();
  prepared->options = options;
  std::vector<TensorView> old_ones;
  for (const PairView& pair : pairs) old_ones.push_back(pair.old_view);
  const PairPlan made = plan(pairs, options, item_blocks_for(old_ones, concurrent));
  put_tables(made.pairs, made.items, *prepared);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    check_view(pairs[i].old_view, "old", i, check);
    check_view(pairs[i].new_view, "new", i, check);
    if (pairs[i].last) check_view(*pairs[i].last, "last", i, check);
    add_room(pairs[i].old_view.count(), words, *prepared);
  }
  prepared->views = std::vector(pairs.begin(), pairs.end());
  prepared->record_bytes = made.records * sizeof(PairPart), prepared->result_bytes = pairs.size() * sizeof(PairFound);
  prepared->counters = made.counters, prepared->shared_bytes = made.shared_bytes;
  return prepared;
}

bool is_of(const Prepared& prepared, std::span<const TensorView> tensors, const Options& options) {
  return is_of_these(prepared, tensors, options);
}

bool is_of(const Prepared& prepared, std::span<const PieceView> pieces, const Options& options) {
  return is_of_these(prepared, pieces, options);
}

bool is_of(const Prepared& prepared, std::span<const PairView> pairs, const Options& options) {
  return is_of_these(prepared, pairs, options);
}

std::vector<Found> found_tensors(const Prepared& prepared, const Answer& answer) {
  std::vector<Found> all;
  const auto* views = prepared.views_of<TensorView>();
  if (views == nullptr) return all;
  all.reserve(views->size());
  for (std::size_t i = 0; i < views->size(); ++i) {
    const Result& result = reinterpret_cast<const Result*>(answer.results)[i];
    const TensorView& view = (*views)[i];
    const auto words = words_of(result, answer);
    const Options& options = prepared.options;
    all.push_back(
        {words ? collect(view, options, result, *words) : collect(view, without_histogram(options), result, {}),
         !words});
  }
  return all;
}

std::vector<Compared> found_pairs(const Prepared& prepared, const Answer& answer) {
  std::vector<Compared> all;
  const auto* views = prepared.views_of<PairView>();
  if (views == nullptr) return all;
  all.reserve(views->size());
  for (std::size_t i = 0; i < views->size(); ++i) {
    const PairFound& found = reinterpret_cast<const PairFound*>(answer.results)[i];
    const auto words = words_of(found, answer);
    const Options& options = prepared.options;
    all.push_back(words ? collect((*views)[i], options, found, *words)
                        : collect((*views)[i], without_histogram(options), found, {}));
    all.back().bins_lost = !words;
  }
  return all;
}

std::vector<ReducedPiece> found_pieces(const Prepared& prepared, const Answer& answer) {
  std::vector<ReducedPiece> all;
  const auto* views = prepared.views_of<PieceView>();
  if (views == nullptr) return all;
  std::span<const Result> results(reinterpret_cast<const Result*>(answer.results), prepared.rows);
  const std::byte* copied = answer.results + prepared.result_bytes;
  for (const PieceView& view : *views) {
    const std::span<const Result> rows = results.first(runs_of(view.cut).size());
    results = results.subspan(rows.size());
    Ends ends = ends_of(view);
    for (std::span<const std::byte>* end : {&ends.head, &ends.tail}) {
      *end = {copied, end->size()};
      copied += end->size();
    }
    // Those of all rows are at the first.
    const auto words = rows.empty() ? std::span<const BinWord>() : words_of(rows.front(), answer).value();
    all.push_back(collect(view, prepared.options, rows, words, ends));
  }
  return all;
}

}  // namespace tensometer::cuda
