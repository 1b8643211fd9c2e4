// What the CUDA kernels share with the CPU is compiled for both.
#pragma once

#ifdef __CUDACC__
#define TENSOMETER_BOTH __host__ __device__
#else
#define TENSOMETER_BOTH
#endif
