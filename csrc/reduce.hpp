// Any number of tensors -> blocks -> kernels -> fixed merge: what every entry point goes through.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bytes.hpp"
#include "dtype.hpp"
#include "fold.hpp"
#include "histogram.hpp"
#include "layout.hpp"
#include "sampling.hpp"
#include "summary.hpp"
#include "tensor_summary.hpp"

namespace tensometer {

struct Options {
  HistogramMode histogram = HistogramMode::none;
  unsigned resolution = 6;
  bool fingerprint = false;
  unsigned threads = 0;  // 0: usable_cpus()
};

// The reduction of a sequence of elements so far, in whole blocks.
struct Partial {
  Partial(DType dtype, const Options& options);

  DType dtype;
  Options options;
  std::uint64_t blocks = 0;
  Fold<Summary> fold;
  LogHistogram histogram;
  std::uint64_t hash = 0;
  std::vector<std::uint32_t> order;   // of the tensor in memory, for the fingerprint; ElementReader::order
  std::unique_ptr<ByteCounts> bytes;  // one-byte types only

  Partial(const Partial& other);
  Partial(Partial&&) noexcept = default;
  Partial& operator=(Partial&&) noexcept = default;

  // With `implicit_zeros` that a sparse tensor does not store. Leaves nothing to append to.
  TensorSummary finish(std::span<const std::int64_t> shape, std::uint64_t implicit_zeros = 0) &&;
};

// Adds zeros that a sparse tensor does not store.
void add_zeros(TensorSummary& summary, std::uint64_t implicit_zeros);

// Elements [first, first + count) of a reader, to be appended to a partial reduction. All but the last one that a
// partial ever sees must be whole blocks.
struct Range {
  Partial* partial;
  const ElementReader* reader;
  std::uint64_t first, count;
};

// Reduces all ranges in one pass over the thread pool. Those of one partial are appended in the order given.
void reduce(std::span<const Range> ranges, unsigned threads);

struct SparseView {
  TensorView values;
  std::vector<std::int64_t> shape;
  std::uint64_t implicit_zeros = 0;
};

KeptVector<TensorSummary> summarize(std::span<const SparseView> tensors, const Options& options);

// What there is at each index from first to before last along `dim` (which must exist).
std::vector<SparseView> units_of(const TensorView& view, std::size_t dim, std::size_t first, std::size_t last);
// One summary for every index.
KeptVector<TensorSummary> summarize_units(const TensorView& view, std::size_t dim, const Options& options);

}  // namespace tensometer
