// Any block of a pair by one warp. Pairs are summed in 128 lanes of float64 (kernels/pair.cpp says how).
#pragma once

#include "cuda/careful.hpp"
#include "cuda/count.hpp"
#include "cuda/pair_tables.hpp"
#include "cuda/value.hpp"

namespace tensometer::cuda {

// Whether a difference of that type is float32.
TENSOMETER_DEVICE bool has_float_lanes(DType dtype) {
  return lanes_of(dtype) == Lanes::f32 || lanes_of(dtype) == Lanes::table;
}

// A block of an item. What else is to know of it is in shared memory, and not in registers.
struct PairBlock {
  const PairShared& shared;
  std::uint32_t index;

  TENSOMETER_DEVICE const Tensor& old_tensor() const { return shared.pair.tensors[0]; }
  TENSOMETER_DEVICE const Tensor& new_tensor() const { return shared.pair.tensors[1]; }
  TENSOMETER_DEVICE DType dtype() const { return static_cast<DType>(old_tensor().dtype); }
  TENSOMETER_DEVICE std::uint64_t first() const { return (shared.item.first_block + index) * block_size; }
  TENSOMETER_DEVICE std::uint32_t count() const {
    const std::uint64_t left = old_tensor().count - first();
    return left < block_size ? static_cast<std::uint32_t>(left) : block_size;
  }
  TENSOMETER_DEVICE std::uint32_t weight() const {
    return block_weight(static_cast<HistogramMode>(old_tensor().histogram), shared.item.first_block + index);
  }
};

TENSOMETER_DEVICE bool is_narrow(const PairBlock& block) { return has_float_lanes(block.dtype()); }

// 64-bit integers are subtracted and compared as such: float64 does not tell neighbours beyond 2^53 apart.
TENSOMETER_DEVICE double subtract_integers(std::uint64_t x, std::uint64_t y, bool has_sign) {
  const std::uint64_t flip = has_sign ? std::uint64_t{1} << 63 : 0;
  return (y ^ flip) >= (x ^ flip) ? static_cast<double>(y - x) : -static_cast<double>(x - y);
}

struct TwoValues {
  double old_value, new_value, difference;
  bool equal;
};

TENSOMETER_DEVICE TwoValues read_both(const PairBlock& block, std::uint32_t i) {
  const std::uint64_t at = block.first() + i;
  const double x = value_of(block.old_tensor(), at), y = value_of(block.new_tensor(), at);
  const DType dtype = block.dtype();
  if (dtype == DType::k_int64 || dtype == DType::k_uint64) {
    const auto a = load<std::uint64_t>(Elements(block.old_tensor(), at).at(0));
    const auto b = load<std::uint64_t>(Elements(block.new_tensor(), at).at(0));
    return {x, y, subtract_integers(a, b, dtype == DType::k_int64), a == b};
  }
  const bool equal = x == y || (x != x && y != y);
  if (is_narrow(block)) return {x, y, static_cast<double>(static_cast<float>(y) - static_cast<float>(x)), equal};
  return {x, y, y - x, equal};
}

// The difference, as what careful_block() reduces. Another function of its own.
TENSOMETER_OUTLINE double difference_at(const PairShared& shared, std::uint32_t index, std::uint32_t i) {
  return read_both({shared, index}, i).difference;
}

TENSOMETER_DEVICE double read(const PairBlock& block, std::uint32_t i) {
  return difference_at(block.shared, block.index, i);
}

// What one sweep over a block finds.
struct PairSweep {
  double sum[3];  // of products, of squares of old and of new elements; the first with `last`: of it and the difference
  std::uint32_t equal, nonfinite;
};

// How elements are scaled, and whether pairs that are not finite are left out of the sums.
struct PairScale {
  int old_exponent = 0, new_exponent = 0;
  bool leaves_out = false;
};

// The exponent that a block of float64 needs, of the elements that are finite.
TENSOMETER_DEVICE int exponent_of(const PairBlock& block, const Tensor& tensor) {
  double largest = 0;
#pragma unroll 1
  for (std::uint32_t i = threadIdx.x % 32; i < block.count(); i += 32) {
    const double size = std::fabs(value_of(tensor, block.first() + i));
    largest = size < infinity && size > largest ? size : largest;
  }
  return block_exponent<double>(highest_of_warp(largest));
}

// The difference's product with the last one, in whose place it is put. As on a CPU, what is multiplied is the difference of
// lanes even of 64-bit integers.
TENSOMETER_DEVICE double follow_last(const PairBlock& block, std::uint32_t i, const TwoValues& both) {
  const std::uint64_t at = block.first() + i;
  if (is_narrow(block)) {
    float& last = static_cast<float*>(block.shared.pair.last)[at];
    const double product = both.difference * static_cast<double>(last);
    last = static_cast<float>(both.difference);
    return product;
  }
  double& last = static_cast<double*>(block.shared.pair.last)[at];
  const double product = (both.new_value - both.old_value) * last;
  last = both.difference;
  return product;
}

// All threads know what it finds. A thread has four of the 128 lanes, 32 apart, of which the first and the third meet first.
TENSOMETER_DEVICE void sweep_pairs(const PairBlock& block, PairExchange& exchange, const PairScale& scale, bool follows,
                                   PairSweep& sweep) {
  const unsigned thread = threadIdx.x % 32;
  auto* met = reinterpret_cast<double*>(exchange.lanes) + thread;  // each thread uses what is its own
  std::uint32_t counts = 0;
#pragma unroll 1
  for (unsigned turn = 0; turn < row_terms; ++turn) {
    double lane[3] = {};
#pragma unroll 1
    for (std::uint32_t i = (turn % 2 * 2 + turn / 2) * block_lanes + thread; i < block.count(); i += row_size) {
      const TwoValues both = read_both(block, i);
      counts += both.equal ? 1u : is_finite(both.difference) ? 0u : 1u << 16;
      double x = both.old_value * power_of_two(-scale.old_exponent);
      double y = both.new_value * power_of_two(-scale.new_exponent);
      if (scale.leaves_out && !(is_finite(x) && is_finite(y))) x = y = 0;
      lane[0] += follows ? follow_last(block, i, both) : x * y;
      lane[1] += x * x;
      lane[2] += y * y;
    }
#pragma unroll
    for (unsigned k = 0; k < 3; ++k) {
      double& sum = met[(turn / 2 * 3 + k) * block_lanes];
      sum = turn % 2 == 0 ? lane[k] : sum + lane[k];
    }
  }
#pragma unroll
  for (unsigned k = 0; k < 3; ++k) sweep.sum[k] = fold_warp(met[k * block_lanes] + met[(3 + k) * block_lanes]);
  sweep.equal = add_warp(counts & 0xffffu), sweep.nonfinite = add_warp(counts >> 16);
}

// Whether a sum of squares has neither overflown nor lost anything; those of float32 never lose.
TENSOMETER_DEVICE bool is_in_range(double squares, bool narrow) {
  constexpr double low = smallest_unscaled<double> * smallest_unscaled<double>;
  constexpr double high = largest_unscaled<double> * largest_unscaled<double>;
  return narrow ? squares < infinity : squares >= low && squares < high;
}

// The totals of a block. Of the sums of an update the CPU has the squares of old elements alone. followed: the difference is in
// the last one's place, and the slot knows their product.
TENSOMETER_DEVICE void careful_totals(const PairBlock& block, PairExchange& exchange, bool followed, PairSlot& slot) {
  const bool updates = block.shared.pair.last != nullptr, narrow = is_narrow(block);
  PairScale scale;
  PairSweep sweep;
#pragma unroll 1
  for (unsigned turn = 0; turn < 2; ++turn) {
    const bool follows = updates && !followed;
    sweep_pairs(block, exchange, scale, follows, sweep);
    if (!followed && threadIdx.x % 32 == 0) slot.along_last = updates ? sweep.sum[0] : 0;
    __syncwarp(whole_warp);
    followed = true;
    const bool of_old = is_in_range(sweep.sum[1], narrow);
    if (of_old && is_in_range(sweep.sum[2], narrow)) break;
    if (updates && of_old && sweep.nonfinite == 0 && is_finite(slot.along_last)) break;
    if (turn == 0 && !narrow) {
      scale.old_exponent = exponent_of(block, block.old_tensor());
      scale.new_exponent = exponent_of(block, block.new_tensor());
    }
    scale.leaves_out = true;
  }
  if (threadIdx.x % 32 != 0) return;
  slot.totals = {sweep.equal,  sweep.nonfinite,    sweep.sum[0],      sweep.sum[1],
                 sweep.sum[2], scale.old_exponent, scale.new_exponent};
  if (updates) slot.totals.dot = slot.totals.new_squares = 0, slot.totals.new_exponent = 0;
}

TENSOMETER_DEVICE void count_difference(const PairBlock& block, const Counters& counters) {
  const unsigned shift = 23u - block.old_tensor().resolution;
#pragma unroll 1
  for (std::uint32_t i = threadIdx.x % 32; i < block.count(); i += 32) {
    counters.add(truncated_pattern(read(block, i)) >> shift, block.weight());
  }
}

}  // namespace tensometer::cuda
