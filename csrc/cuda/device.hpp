// CUDA, or what stands in for it where the kernels run on a CPU (emulation/cuda.hpp).
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define TENSOMETER_DEVICE __device__ __forceinline__
#define TENSOMETER_OUTLINE __device__ __noinline__
#define TENSOMETER_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
// Nothing that stands behind it is loaded before it: what is loaded early takes registers.
#define TENSOMETER_IN_TURN() asm volatile("" ::: "memory")
#else
#include "cuda/emulation/cuda.hpp"
#define TENSOMETER_DEVICE inline
#define TENSOMETER_OUTLINE inline
#define TENSOMETER_IN_TURN()
#endif
