// Counting a block into bins given by their edges, as numpy.histogram does: by comparison with the edges, not by trust in
// a division.
//
// Where bins are of equal width, a multiplication gives a position whose whole part is the bin, unless it lies so close to
// a whole number that rounding may have carried it across. `margin` bounds that (uniform.cpp derives it). A row of elements
// that all stay clear of it is done with vectors; the rest, a few in a million, is compared with the edges.
#include "kernels/kernels.hpp"
#include "simd.hpp"

namespace tensometer {
namespace {

// The bin by comparison: a guess, its neighbours, then bisection until edges[bin] <= x < edges[bin + 1].
TENSOMETER_INLINE std::int32_t exact_bin(double x, const UniformBins& bins) {
  const auto top = static_cast<std::int32_t>(bins.count) - 1;
  if (!(x >= bins.edges[0] && x <= bins.edges[bins.count])) return top + 1;
  const double position = (x - bins.edges[0]) * bins.per_unit;
  // A range so wide that it overflows gives NaN here, and the walk starts at bin 0.
  std::int32_t bin = position <= static_cast<double>(top) ? static_cast<std::int32_t>(position)
                     : position > 0                       ? top
                                                          : 0;
  if (bin > 0 && x < bins.edges[bin]) --bin;
  if (bin < top && x >= bins.edges[bin + 1]) ++bin;
  std::int32_t low = 0, high = top;  // bins of unequal width: the guess says nothing
  while (x < bins.edges[bin] || (bin < top && x >= bins.edges[bin + 1])) {
    if (x < bins.edges[bin]) {
      high = bin - 1;
    } else {
      low = bin + 1;
    }
    bin = low + (high - low) / 2;
  }
  return bin;
}

// One row's bins, in words as wide as a lane; what lies outside, and NaN, goes to one beyond the last, which nobody reads.
// False if an element was too close to call. Adding 2^23 (2^52) rounds a position to a whole number and leaves that number
// in the low bits, on every instruction set.
template <class Lane>
TENSOMETER_INLINE bool bins_of_row(const Lane* x, const UniformBins& bins, typename Simd<Lane>::Word* out) {
  using S = Simd<Lane>;
  using V = typename S::Vector;
  using M = typename S::Mask;
  using Bits = typename S::Bits;
  constexpr Lane shifter = sizeof(Lane) == 4 ? static_cast<Lane>(0x1p23) : static_cast<Lane>(0x1p52);
  const V first = broadcast<V>(static_cast<Lane>(bins.edges[0]));
  const V last = broadcast<V>(static_cast<Lane>(bins.edges[bins.count]));
  const V per_unit = broadcast<V>(static_cast<Lane>(bins.per_unit)),
          margin = broadcast<V>(static_cast<Lane>(bins.margin));
  const V round = broadcast<V>(shifter), neutral = broadcast<V>(static_cast<Lane>(0.5));
  const Bits outside = Bits{} + bins.count;
  M unsure{};
  for (std::uint32_t k = 0; k < block_lanes; k += S::lanes) {
    const V v = load<V>(x + k);
    const M inside = (M)(v >= first) & (M)(v <= last);
    const V position = select(inside, (v - first) * per_unit, neutral);
    const V shifted = position + round, off = position - (shifted - round);
    const M below = (M)(off < 0);  // the nearest whole number lies above: the bin is one less
    unsure |= (M)(magnitude<Lane>(off) <= margin);
    const Bits bin = bits_of<Bits>(shifted) - bits_of<Bits>(round) + bits_of<Bits>(below);
    store(out + k, select(inside, bin, outside));
  }
  typename S::Word lane[S::lanes], any = 0;
  store(lane, unsure);
  for (const typename S::Word word : lane) any |= word;
  return any == 0;
}

// Neighbours go to tables of their own, so that equal ones need not wait for each other.
template <class Word>
TENSOMETER_INLINE void count_found(const Word* found, std::uint32_t count, std::uint32_t* first, std::size_t size) {
  std::uint32_t *second = first + size, *third = second + size, *fourth = third + size;
  std::uint32_t k = 0;
  for (; k + 4 <= count; k += 4) {
    if constexpr (sizeof(Word) == 4) {  // two bins with one load
      const auto low = load<std::uint64_t>(found + k), high = load<std::uint64_t>(found + k + 2);
      ++first[static_cast<std::uint32_t>(low)];
      ++second[low >> 32];
      ++third[static_cast<std::uint32_t>(high)];
      ++fourth[high >> 32];
    } else {
      ++first[found[k]];
      ++second[found[k + 1]];
      ++third[found[k + 2]];
      ++fourth[found[k + 3]];
    }
  }
  for (; k < count; ++k) ++first[found[k]];
}

template <class Lane>
void count_uniform(const Lane* x, std::uint32_t count, const UniformBins& bins, std::uint32_t* tables) {
  using Word = typename Simd<Lane>::Word;
  alignas(64) Word found[block_lanes];
  const std::size_t size = bins.count + std::size_t{1};
  for (std::uint32_t first = 0; first < count; first += block_lanes) {
    const std::uint32_t width = count - first < block_lanes ? count - first : block_lanes;
    // Counting leaves the memory idle: the next block is fetched meanwhile.
    for (std::uint32_t k = 0; k < block_lanes; k += 64 / sizeof(Lane))
      __builtin_prefetch(x + block_size + first + k, 0, 2);
    if (width < block_lanes || bins.margin >= 0.5 || !bins_of_row(x + first, bins, found)) {
      for (std::uint32_t k = 0; k < width; ++k) {
        found[k] = static_cast<Word>(exact_bin(static_cast<double>(x[first + k]), bins));
      }
    }
    count_found(found, width, tables, size);
  }
}

}  // namespace

extern const UniformKernels TENSOMETER_CONCAT(uniform_kernels_, TENSOMETER_ISA);
const UniformKernels TENSOMETER_CONCAT(uniform_kernels_, TENSOMETER_ISA) = {&count_uniform<float>,
                                                                            &count_uniform<double>};

}  // namespace tensometer
