// Counting a block into bins given by their edges, as numpy.histogram does: by comparison with the edges, not by trust in
// a division.
//
// Where bins are of equal width, a multiplication gives a position whose whole part is the bin, unless it lies so close to
// a whole number that rounding may have carried it across. `margin` bounds that (uniform.cpp derives it). Elements that stay
// clear of it are done with vectors, the others (a few in a million, but also every exact zero where zero is an edge) are
// compared with the edges next to them.
#include "kernels/kernels.hpp"
#include "simd.hpp"

namespace tensometer {
namespace {

// The bin by comparison, with edges of any widths: bisection until edges[bin] <= x < edges[bin + 1].
TENSOMETER_INLINE std::uint32_t searched_bin(double x, const UniformBins& bins) {
  if (!(x >= bins.edges[0] && x <= bins.edges[bins.count])) return bins.count;
  std::uint32_t low = 0, high = bins.count - 1;
  while (low < high) {
    const std::uint32_t middle = low + (high - low + 1) / 2;
    if (x >= bins.edges[middle]) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

template <class Lane>
constexpr auto doubt_of = ~Simd<Lane>::magnitude_bits;

// One row's bins, in words as wide as a lane; what lies outside, and NaN, goes to one beyond the last. An element too close
// to an edge to call has the top bit of its word set, and makes the result true. Adding 2^23 (2^52) rounds a position to a
// whole number and leaves that number in the low bits, on every instruction set.
template <bool all_inside, class Lane>
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
  // The first bin reaches down to the first edge itself and the last one up to the last: no doubt there.
  const V lowest = broadcast<V>(static_cast<Lane>(0.5)),
          highest = broadcast<V>(static_cast<Lane>(bins.count) - static_cast<Lane>(0.5));
  const V round = broadcast<V>(shifter);
  const Bits outside = Bits{} + bins.count, doubt = Bits{} + doubt_of<Lane>;
  Bits any{};
  for (std::uint32_t k = 0; k < row_size; k += S::lanes) {
    const V v = load<V>(x + k);
    const M inside = (M)(v >= first) & (M)(v <= last);
    const V position = lower(upper((v - first) * per_unit, lowest), highest);
    const V shifted = position + round, off = position - (shifted - round);
    const M below = (M)(off < 0);  // the nearest whole number lies above: the bin is one less
    const Bits unsure = bits_of<Bits>((M)(magnitude<Lane>(off) <= margin)) & doubt;
    any |= unsure;
    const Bits bin = bits_of<Bits>(shifted) - bits_of<Bits>(round) + bits_of<Bits>(below);
    store(out + k, all_inside ? bin | unsure : select(inside, bin | unsure, outside));
  }
  typename S::Word lane[S::lanes], some = 0;
  store(lane, any);
  for (const typename S::Word word : lane) some |= word;
  return some != 0;
}

// Puts the bins in doubt right: each is its own or a neighbour's, and neither the first nor the last edge is concerned.
template <class Lane>
TENSOMETER_INLINE void resolve_doubt(const Lane* x, const UniformBins& bins, typename Simd<Lane>::Word* found) {
  constexpr int top_bit = 8 * static_cast<int>(sizeof(Lane)) - 1;
  std::uint32_t where[row_size], count = 0;
  for (std::uint32_t k = 0; k < row_size; ++k) {
    where[count] = k;
    count += static_cast<std::uint32_t>(found[k] >> top_bit);
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    const double value = static_cast<double>(x[where[i]]);
    const auto bin = static_cast<std::uint32_t>(found[where[i]] & ~doubt_of<Lane>);
    found[where[i]] = bin + (value >= bins.edges[bin + 1]) - (value < bins.edges[bin]);
  }
}

// Neighbours go to tables of their own, so that equal ones need not wait for each other.
template <class Word>
TENSOMETER_INLINE void count_found(const Word* found, std::uint32_t count, std::uint32_t* first, std::size_t size) {
  std::uint32_t *second = first + size, *third = second + size, *fourth = third + size;
  std::uint32_t k = 0;
  for (; k + 4 <= count; k += 4) {
    ++first[found[k]];
    ++second[found[k + 1]];
    ++third[found[k + 2]];
    ++fourth[found[k + 3]];
  }
  for (; k < count; ++k) ++first[found[k]];
}

// The same for pairs of neighbours: half as many counters to raise, which is what bounds the loop.
TENSOMETER_INLINE void count_pairs(const std::uint32_t* found, std::uint32_t* first) {
  std::uint32_t* second = first + bin_pairs;
  alignas(64) std::uint64_t pairs[row_size / 2];
  for (std::uint32_t k = 0; k < row_size; k += Simd<float>::lanes) {
    const VUInt64 both = load<VUInt64>(found + k), high = both >> 32;
    static_assert(pair_pitch == 65);
    store(pairs + k / 2, (both & 0xffffffffu) + (high << 6) + high);
  }
  for (std::uint32_t k = 0; k < row_size / 2; k += 2) {
    ++first[pairs[k]];
    ++second[pairs[k + 1]];
  }
}

template <class Lane>
void count_uniform(const Lane* x, std::uint32_t count, const UniformBins& bins, std::uint32_t* tables) {
  using Word = typename Simd<Lane>::Word;
  // Several rows' bins are found before any is counted: counters wait for nothing then.
  constexpr std::uint32_t part = 8 * row_size;
  alignas(64) Word found[part];
  for (std::uint32_t start = 0; start < count; start += part) {
    const std::uint32_t width = count - start < part ? count - start : part;
    for (std::uint32_t first = 0; first < width; first += row_size) {
      const Lane* row = x + start + first;
      const std::uint32_t in_row = width - first < row_size ? width - first : row_size;
      // Counting leaves the memory idle: the next part is fetched meanwhile.
      for (std::uint32_t k = 0; k < row_size; k += 64 / sizeof(Lane)) __builtin_prefetch(row + part + k, 0, 3);
      if (bins.margin < 0.5 && in_row == row_size) {
        const bool doubt = bins.all_inside ? bins_of_row<true>(row, bins, found + first)
                                           : bins_of_row<false>(row, bins, found + first);
        if (doubt) resolve_doubt(row, bins, found + first);
      } else {
        for (std::uint32_t k = 0; k < in_row; ++k) found[first + k] = searched_bin(static_cast<double>(row[k]), bins);
      }
    }
    std::uint32_t first = 0;
    if constexpr (sizeof(Lane) == 4) {
      if (bins.pairs) {
        for (; first + row_size <= width; first += row_size) count_pairs(found + first, tables);
        for (; first < width; ++first) ++tables[found[first] + std::size_t{pair_pitch} * bins.count];
      }
    }
    count_found(found + first, width - first, tables, bins.count + std::size_t{1});
  }
}

}  // namespace

extern const UniformKernels TENSOMETER_CONCAT(uniform_kernels_, TENSOMETER_ISA);
const UniformKernels TENSOMETER_CONCAT(uniform_kernels_, TENSOMETER_ISA) = {&count_uniform<float>,
                                                                            &count_uniform<double>};

}  // namespace tensometer
