// What a submit uploads, and how what comes back is read: of tensors, pairs of them or pieces.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "cuda/plan_pairs.hpp"
#include "cuda/plan_pieces.hpp"

namespace tensometer::cuda {

// What came of one tensor. Bins of a histogram that found no room are lost, and the summary has none. There is room for them
// from the next submit on.
struct Found {
  TensorSummary summary;
  bool bins_lost = false;
};

// Good for as long as the same tensors come.
struct Prepared {
  std::variant<std::vector<TensorView>, std::vector<PairView>, std::vector<PieceView>> views;
  Options options;
  std::vector<std::byte> tables;  // a row a tensor, pair or run of a piece, then items
  std::size_t rows = 0, items = 0, item_table = 0;
  std::size_t record_bytes = 0, result_bytes = 0;  // of all
  std::uint64_t counters = 0;
  std::uint32_t shared_bytes = 0;
  std::uint64_t first_room = 0, most_room = 0;     // words of bins
  std::uint64_t bytes_room = 0;                    // of them those of one-byte types
  std::vector<std::span<const std::byte>> copied;  // memory that comes back as it is, behind the results
  std::size_t copied_bytes = 0;

  // Those that it is of, if they are such ones.
  template <class View>
  const std::vector<View>* views_of() const {
    return std::get_if<std::vector<View>>(&views);
  }
};

// Says why a tensor's memory may not be read, as "is not in ..."; nothing if it may.
using CheckMemory = std::function<std::string(const void* data)>;

// concurrent: thread blocks that run at a time. words: of a histogram, for which there is room at first. Throw as plan() does.
std::shared_ptr<const Prepared> prepare(std::span<const TensorView> tensors, const Options& options,
                                        std::uint32_t concurrent, std::uint64_t words, const CheckMemory& check);
std::shared_ptr<const Prepared> prepare(std::span<const PairView> pairs, const Options& options,
                                        std::uint32_t concurrent, std::uint64_t words, const CheckMemory& check);
std::shared_ptr<const Prepared> prepare(std::span<const PieceView> pieces, const Options& options,
                                        std::uint32_t concurrent, std::uint64_t words, const CheckMemory& check);

// Whether it is what these would be prepared to.
bool is_of(const Prepared& prepared, std::span<const TensorView> tensors, const Options& options);
bool is_of(const Prepared& prepared, std::span<const PairView> pairs, const Options& options);
bool is_of(const Prepared& prepared, std::span<const PieceView> pieces, const Options& options);

// Where a device's answer lies, and for how many words there was room.
struct Answer {
  const std::byte* results;
  const BinWord* words;
  std::uint64_t room;
};
// Nothing if it is of others.
std::vector<Found> found_tensors(const Prepared& prepared, const Answer& answer);
std::vector<Compared> found_pairs(const Prepared& prepared, const Answer& answer);
// There has to be room for all bins.
std::vector<ReducedPiece> found_pieces(const Prepared& prepared, const Answer& answer);

}  // namespace tensometer::cuda
