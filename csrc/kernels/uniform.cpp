// Counting a block into bins given by their edges, as numpy.histogram does: by comparison with the edges, not by trust in
// a division. A multiplication guesses the bin; it is then corrected until edges[bin] <= x < edges[bin + 1].
#include "kernels/kernels.hpp"
#include "simd.hpp"

namespace tensometer {
namespace {

template <class Lane>
void count_uniform(const Lane* x, std::uint32_t count, const UniformBins& bins, std::uint32_t* table) {
  const double first = bins.edges[0], last = bins.edges[bins.bins];
  const std::int32_t top = static_cast<std::int32_t>(bins.bins) - 1;
  alignas(64) std::int32_t guess[block_size];
  // Outside (and NaN) goes to one bin beyond the last, which nobody reads.
  for (std::uint32_t i = 0; i < count; ++i) {
    const double value = static_cast<double>(x[i]);
    const bool inside = (value >= first) & (value <= last);
    const double position = inside ? (value - first) * bins.guess : 0.0;
    // A range that overflows gives NaN here, and the correction walks from bin 0.
    const std::int32_t bin = position <= bins.bins ? static_cast<std::int32_t>(position) : 0;
    guess[i] = inside ? (bin < top ? bin : top) : top + 1;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    std::int32_t bin = guess[i];
    if (bin <= top) {
      const double value = static_cast<double>(x[i]);
      while (bin > 0 && value < bins.edges[bin]) --bin;
      while (bin < top && value >= bins.edges[bin + 1]) ++bin;
    }
    ++table[bin];
  }
}

}  // namespace

extern const UniformKernels TENSOMETER_CONCAT(uniform_kernels_, TENSOMETER_ISA);
const UniformKernels TENSOMETER_CONCAT(uniform_kernels_, TENSOMETER_ISA) = {&count_uniform<float>,
                                                                           &count_uniform<double>};

}  // namespace tensometer
