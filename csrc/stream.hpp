// A tensor that arrives in pieces. A stream cut anywhere gives the bits of the whole.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "piece.hpp"
#include "reduce.hpp"

namespace tensometer {

class Stream {
 public:
  Stream(DType dtype, const Options& options);

  DType dtype() const { return partial_.dtype; }
  const Options& options() const { return partial_.options; }
  // Elements seen, those of merged streams included.
  std::uint64_t count() const;

  // Appends the view's elements. Throws std::invalid_argument if its dtype is not the stream's.
  void update(const SparseView& piece);
  // How the next piece is cut where others reduce its blocks; throws as update(). And that piece, of this stream's dtype.
  Cut cut(const TensorView& piece) const;
  void update(const ReducedPiece& piece, std::uint64_t implicit_zeros);
  // Adds another stream's elements: counts, extremes and histogram exactly, moments within float64 rounding. Throws
  // std::invalid_argument if dtypes or options differ.
  void merge(const Stream& other);
  // What has arrived so far. The shape is (count,).
  TensorSummary summary() const;

  // A copy of the whole state as bytes, and back. Throws std::invalid_argument for bytes that no stream wrote.
  std::string save() const;
  static Stream restore(const std::string& bytes);

 private:
  void append_blocks(const ReducedPiece& piece);
  // Whether what was restored is a state that updates can lead to.
  bool consistent() const;

  Partial partial_;
  std::vector<std::byte> pending_;  // elements that do not fill a block yet
  std::uint64_t count_ = 0, implicit_zeros_ = 0;
  std::optional<TensorSummary> merged_;
};

}  // namespace tensometer
