// The kernels as C++, launched over a plan.
#pragma once

#include <vector>

#include "cuda/emulation/machine.hpp"
#include "cuda/plan_pairs.hpp"
#include "cuda/plan_pieces.hpp"

namespace tensometer::cuda {

struct Emulated {
  emulation::Schedule schedule = emulation::Schedule::forward;
  std::uint64_t seed = 0;
  std::uint32_t item_blocks = 8;
};

// Summaries as the kernels make them.
std::vector<TensorSummary> emulate(const std::vector<TensorView>& views, const Options& options, const Emulated& how);

// What the kernels make of pieces, which lie in the host's memory here.
std::vector<ReducedPiece> emulate_pieces(const std::vector<PieceView>& views, const Options& options,
                                         const Emulated& how);

// The same of pairs.
std::vector<Compared> emulate_pairs(const std::vector<PairView>& views, const Options& options, const Emulated& how);

// Counters of a tensor, and what a finishing launch with so much room makes of those of many.
struct Counted {
  DType dtype;
  unsigned resolution;
  std::vector<unsigned long long> counters;
};
struct Taken {
  std::vector<Result> results;
  std::vector<BinWord> words;
};
Taken emulate_taking(const std::vector<Counted>& all, std::uint64_t room, std::uint64_t bytes_room,
                     const Emulated& how);

}  // namespace tensometer::cuda
