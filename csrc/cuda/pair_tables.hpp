// What the launcher and the kernels that compare exchange, and their shared memory.
#pragma once

#include "cuda/shared.hpp"
#include "pair_part.hpp"

namespace tensometer::cuda {

// Two tensors of one type and count. The first entry also tells of records, counters and the histogram.
struct TensorPair {
  Tensor tensors[2];  // old, new
  void* last;         // as of tensometer::Pair: lanes of the difference, one after another; null: none
};

// What is known of a pair in the end. The bins are those of the difference, as of Result.
struct PairFound {
  PairPart whole;
  std::uint64_t first_word, words;
};

// A block of a pair; that of its difference, before and after it is finished.
struct PairSlot {
  Slot difference;
  PairTotals totals;
  double along_last;
};

// Two rows of both tensors, as a warp has widened them; of one row, 128 float64.
struct PairExchange {
  alignas(16) float lanes[2][2 * row_size];
};

// Of a thread block that compares. Behind it lie the counters, if it counts in shared memory.
struct PairShared {
  TensorPair pair;
  Item item;
  PairSlot blocks[fold_width];
  std::uint32_t careful[fold_width];  // whether a block needs care after all
  PairExchange exchange[reduce_warps];
};

TENSOMETER_BOTH inline std::uint32_t* counters_behind(const PairShared& shared) {
  return reinterpret_cast<std::uint32_t*>(const_cast<PairShared*>(&shared + 1));
}

}  // namespace tensometer::cuda
