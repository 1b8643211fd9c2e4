// Shared memory of the kernels: its layout, which the launcher must know the size of.
#pragma once

#include "block.hpp"
#include "cuda/abi.hpp"
#include "fold.hpp"

namespace tensometer::cuda {

inline constexpr unsigned reduce_warps = reduce_threads / 32;

// A block, before and after it is finished.
union Slot {
  struct {
    BlockSums sums;
    std::int64_t integer_min, integer_max;
  } raw;
  Summary summary;
  TENSOMETER_BOTH Slot() {}
};

// What a warp passes from thread to thread.
struct Exchange {
  double lanes[4][block_lanes];
};

// Of a thread block that reduces. Behind it lie the counters, if it counts in shared memory. What all threads know is here,
// and not in registers, of which the hot loop leaves none.
struct Shared {
  Tensor tensor;
  Item item;
  Slot blocks[fold_width];
  std::uint32_t careful[fold_width];  // whether a block's sums are still to be made, with care
  Exchange exchange[reduce_warps];
};

// Of one that finishes.
struct FinishShared {
  std::uint32_t found[finish_threads];
  std::uint64_t first;
};

}  // namespace tensometer::cuda
