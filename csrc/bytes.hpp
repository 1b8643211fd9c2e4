// One-byte types: 256 counters hold everything, and every statistic follows from them.
#pragma once

#include <array>
#include <cstdint>

#include "byte_value.hpp"
#include "dtype.hpp"
#include "histogram.hpp"
#include "summary.hpp"

namespace tensometer {

using ByteCounts = std::array<std::uint64_t, 256>;

// Adds `count` bytes to the counters.
void count_bytes(const void* data, std::uint32_t count, ByteCounts& counts);

// The summary of a tensor with these counts. The sum is exact, mean and m2 are correct to a few float64 roundings.
Summary summary_of_bytes(DType dtype, const ByteCounts& counts);

LogHistogram histogram_of_bytes(DType dtype, const ByteCounts& counts, unsigned resolution);

}  // namespace tensometer
