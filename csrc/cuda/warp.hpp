// What the 32 threads of a warp do together. All take part in every call. Where threads might have gone apart, the compiler emits
// a second, slow way for every shuffle: so there are few, in loops, and sums of lanes fold in shared memory.
#pragma once

#include "cuda/device.hpp"

namespace tensometer::cuda {

inline constexpr unsigned whole_warp = 0xffffffffu;

// A thread's index, read anew wherever it is asked for, and all memory after it: so the hot loop keeps no registers for what comes
// behind it.
TENSOMETER_DEVICE unsigned thread_index() {
#ifdef __CUDACC__
  unsigned index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index) : : "memory");
  return index;
#else
  return threadIdx.x;
#endif
}

// Of each array lane[k] += lane[k + w] for w = 16, 8, 4, 2, 1, in place: then all threads see what the first lane holds.
TENSOMETER_DEVICE void fold_lanes(double (*lanes)[32], unsigned arrays, unsigned thread) {
  __syncwarp(whole_warp);
#pragma unroll 1
  for (unsigned width = 16; width > 0; width /= 2) {
#pragma unroll 1
    for (unsigned i = thread; i < arrays * width; i += 32)
      lanes[i / width][i % width] += lanes[i / width][i % width + width];
    __syncwarp(whole_warp);
  }
}

// The same of one lane a thread, by shuffles.
TENSOMETER_DEVICE double fold_warp(double value) {
#pragma unroll 1
  for (unsigned width = 16; width > 0; width /= 2) value += __shfl_down_sync(whole_warp, value, width);
  return __shfl_sync(whole_warp, value, 0);
}

TENSOMETER_DEVICE std::uint32_t add_warp(std::uint32_t value) {
#pragma unroll 1
  for (unsigned width = 16; width > 0; width /= 2) value += __shfl_xor_sync(whole_warp, value, width);
  return value;
}

template <class T>
TENSOMETER_DEVICE T lowest_of_warp(T value) {
#pragma unroll 1
  for (unsigned width = 16; width > 0; width /= 2) {
    const T other = __shfl_xor_sync(whole_warp, value, width);
    value = other < value ? other : value;
  }
  return value;
}

template <class T>
TENSOMETER_DEVICE T highest_of_warp(T value) {
#pragma unroll 1
  for (unsigned width = 16; width > 0; width /= 2) {
    const T other = __shfl_xor_sync(whole_warp, value, width);
    value = value < other ? other : value;
  }
  return value;
}

}  // namespace tensometer::cuda
