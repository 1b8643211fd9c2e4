// Shared memory of the kernels: its layout, which the launcher must know the size of.
#pragma once

#include "block.hpp"
#include "cuda/abi.hpp"
#include "cuda/device.hpp"
#include "fold.hpp"

namespace tensometer::cuda {

inline constexpr unsigned reduce_warps = reduce_threads / 32, finish_warps = finish_threads / 32;

// A block, before and after it is finished.
union Slot {
  struct {
    BlockSums sums;
    std::int64_t integer_min, integer_max;
  } raw;
  Summary summary;
  TENSOMETER_BOTH Slot() {}
};

// Of a warp: what it passes from thread to thread, and the blocks in work.
struct Work {
  union {
    double lanes[8][block_lanes];
    std::uint64_t hashes[2][32];
  };
  double pivot[2];
  std::uint32_t weight[2];      // how often each element is counted
  std::uint32_t block, wanted;  // the first of them, and how many
};

// Of a thread block that reduces. Behind it lie the counters, if it counts in shared memory. What all threads of a block or a
// warp know is here, and not in registers, of which the hot loop leaves none.
struct Shared {
  Tensor tensor;
  Item item;
  const unsigned char* data;  // the item's first element, if elements lie one after another
  Slot blocks[fold_width];
  std::uint32_t careful[fold_width];  // whether a block's sums are still to be made, with care
  Work work[reduce_warps];
};

TENSOMETER_DEVICE std::uint32_t* counters_behind(Shared& shared) {
  return reinterpret_cast<std::uint32_t*>(&shared + 1);
}

// Of one that finishes.
struct FinishShared {
  std::uint32_t found[finish_warps];
  std::uint64_t first;
};

}  // namespace tensometer::cuda
