// What the 32 threads of a warp do together. All take part in every call.
#pragma once

#include "cuda/device.hpp"

namespace tensometer::cuda {

inline constexpr unsigned whole_warp = 0xffffffffu;

// lane[k] += lane[k + w] for w = 16, 8, 4, 2, 1, and what lane 0 then holds, in all threads.
TENSOMETER_DEVICE double fold_warp(double value) {
#pragma unroll
  for (unsigned width = 16; width > 0; width /= 2) value += __shfl_down_sync(whole_warp, value, width);
  return __shfl_sync(whole_warp, value, 0);
}

TENSOMETER_DEVICE std::uint32_t add_warp(std::uint32_t value) {
#pragma unroll
  for (unsigned width = 16; width > 0; width /= 2) value += __shfl_xor_sync(whole_warp, value, width);
  return value;
}

template <class T>
TENSOMETER_DEVICE T lowest_of_warp(T value) {
#pragma unroll
  for (unsigned width = 16; width > 0; width /= 2) {
    const T other = __shfl_xor_sync(whole_warp, value, width);
    value = other < value ? other : value;
  }
  return value;
}

template <class T>
TENSOMETER_DEVICE T highest_of_warp(T value) {
#pragma unroll
  for (unsigned width = 16; width > 0; width /= 2) {
    const T other = __shfl_xor_sync(whole_warp, value, width);
    value = value < other ? other : value;
  }
  return value;
}

}  // namespace tensometer::cuda
