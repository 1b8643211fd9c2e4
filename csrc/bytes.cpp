#include "bytes.hpp"

#include <cmath>
#include <cstring>

namespace tensometer {

void count_bytes(const void* data, std::uint32_t count, ByteCounts& counts) {
  // Four tables: neighbours are often equal, and a counter cannot be raised twice within the latency of a store.
  std::uint32_t table[4][256] = {};
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  std::uint32_t i = 0;
  for (; i + 8 <= count; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes + i, sizeof word);
    for (unsigned k = 0; k < 8; ++k) ++table[k % 4][(word >> (8 * k)) & 255u];
  }
  for (; i < count; ++i) ++table[0][bytes[i]];
  for (unsigned v = 0; v < 256; ++v) counts[v] += std::uint64_t{table[0][v]} + table[1][v] + table[2][v] + table[3][v];
}

Summary summary_of_bytes(DType dtype, const ByteCounts& counts) {
  Summary s;
  // Every finite value is a whole multiple of 2^-17 below 2^16, so a sum of 2^63 of them is exact in 128 bits.
  __extension__ using Int128 = __int128;
  Int128 sum = 0, magnitudes = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::uint64_t n = counts[byte];
    if (n == 0) continue;
    const double value = value_of_byte(dtype, byte);
    s.count += n;
    s.nan += value != value ? n : 0;
    s.posinf += value == infinity ? n : 0;
    s.neginf += value == -infinity ? n : 0;
    if (!(std::fabs(value) < infinity)) continue;
    s.zeros += value == 0 ? n : 0;
    s.negatives += value < 0 ? n : 0;
    s.min = std::min(s.min, value + 0.0);
    s.max = std::max(s.max, value + 0.0);
    const Int128 units = static_cast<Int128>(std::llround(value * 0x1p17)) * static_cast<Int128>(n);
    sum += units;
    magnitudes += units < 0 ? -units : units;
  }
  if (s.finite() == 0) return s;
  s.mean = static_cast<double>(sum) * 0x1p-17 / static_cast<double>(s.finite());
  s.abs_sum = static_cast<double>(magnitudes) * 0x1p-17;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const double value = value_of_byte(dtype, byte), d = value - s.mean;
    if (counts[byte] != 0 && std::fabs(value) < infinity) s.m2 += static_cast<double>(counts[byte]) * (d * d);
  }
  return s;
}

LogHistogram histogram_of_bytes(DType dtype, const ByteCounts& counts, unsigned resolution) {
  LogHistogram histogram;
  histogram.resolution = resolution;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const double value = value_of_byte(dtype, byte);
    if (std::fabs(value) < infinity) histogram.add(bin_of(value, resolution), counts[byte]);
  }
  return histogram;
}

}  // namespace tensometer
