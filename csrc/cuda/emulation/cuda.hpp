// CUDA's words for kernels that run on a CPU: threads are fibers, which meet where a GPU's would.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda/emulation/machine.hpp"

#define __global__
#define __launch_bounds__(...)
#define threadIdx (::tensometer::emulation::here().thread)
#define blockIdx (::tensometer::emulation::here().block)
#define TENSOMETER_SHARED(name) unsigned char* const name = ::tensometer::emulation::here().shared

namespace tensometer::emulation {

template <class T>
__attribute__((noinline)) T shuffle(Meeting kind, unsigned mask, T value, unsigned lane) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = meet(kind, mask, __builtin_return_address(0), bits, lane);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace tensometer::emulation

// A real GPU moves values of 4 and 8 bytes alike.
template <class T>
__attribute__((always_inline)) inline T __shfl_sync(unsigned mask, T value, unsigned lane) {
  return tensometer::emulation::shuffle(tensometer::emulation::Meeting::shuffle, mask, value, lane);
}
template <class T>
__attribute__((always_inline)) inline T __shfl_down_sync(unsigned mask, T value, unsigned by) {
  return tensometer::emulation::shuffle(tensometer::emulation::Meeting::shuffle_down, mask, value, by);
}
template <class T>
__attribute__((always_inline)) inline T __shfl_xor_sync(unsigned mask, T value, unsigned by) {
  return tensometer::emulation::shuffle(tensometer::emulation::Meeting::shuffle_xor, mask, value, by);
}
__attribute__((always_inline)) inline void __syncwarp(unsigned mask = 0xffffffffu) {
  tensometer::emulation::shuffle(tensometer::emulation::Meeting::warp, mask, std::uint32_t{0}, 0);
}
__attribute__((always_inline)) inline unsigned __ballot_sync(unsigned mask, bool value) {
  const std::uint32_t vote = static_cast<std::uint32_t>(value) << threadIdx.x % 32;
  return tensometer::emulation::shuffle(tensometer::emulation::Meeting::ballot, mask, vote, 0);
}
__attribute__((always_inline)) inline void __syncthreads() {
  tensometer::emulation::shuffle(tensometer::emulation::Meeting::block, 0xffffffffu, std::uint32_t{0}, 0);
}

inline int __popc(unsigned x) { return std::popcount(x); }

template <class T>
inline T atomicAdd(T* place, T value) {
  return __atomic_fetch_add(place, value, __ATOMIC_RELAXED);
}
