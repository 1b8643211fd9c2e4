// Tables for pieces of tensors that arrive in several, and what came of them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cuda/plan.hpp"
#include "piece.hpp"

namespace tensometer::cuda {

// A piece in device memory, whose elements lie one after another.
struct PieceView {
  TensorView elements;
  Cut cut;
};

// The ends of a piece, which are brought as they are.
struct Ends {
  std::span<const std::byte> head, tail;
};
Ends ends_of(const PieceView& view);

// As plan() of tensors: a row for each of runs_of() a piece. Throws TensorError too for elements that lie apart.
Plan plan(std::span<const PieceView> views, const Options& options, std::uint32_t item_blocks);

// Of what the kernels found of a piece's rows. `words`: of all its blocks. `ends`: those that were brought.
ReducedPiece collect(const PieceView& view, const Options& options, std::span<const Result> rows,
                     std::span<const BinWord> words, const Ends& ends);

}  // namespace tensometer::cuda
