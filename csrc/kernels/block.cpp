// The sums of one block, for the instruction set this file is compiled for.
//
// A sweep runs over eight rows of two vectors of lanes with every accumulator in a register: with 16 registers, their six sums
// and six for what depends on no order, the pivot and the masks leave four for the terms of a row. With 64-byte
// vectors two are all 32 lanes of float32, so that one sweep reads memory in order.
#include "kernels/kernels.hpp"
#include "simd.hpp"

namespace tensometer {
namespace {

template <class Lane>
struct Sweep {
  static constexpr int lanes = 2 * Simd<Lane>::lanes;
};

// How far a sweep fetches ahead, into the first cache: over half of its 32 KB or more, what a sweep still needs would be
// lost. On Zen 5, in GB/s of one core and of two, for what is in no cache: 21 and 37 without, 31 and 45 with 2 KB, 35 and
// 48 with 4, 40 and 50 with 8, 41 and 49 with 16.
constexpr int bytes_ahead = 8192;

template <class Lane>
struct LaneSums {
  alignas(64) Lane sum[block_lanes], squares[block_lanes], magnitudes[block_lanes];
};

// The order-free statistics, vector by vector.
template <class Lane>
struct Order {
  using S = Simd<Lane>;
  using V = typename S::Vector;
  using M = typename S::Mask;
  V lowest = broadcast<V>(static_cast<Lane>(infinity)), highest = broadcast<V>(static_cast<Lane>(-infinity));
  M zeros{}, positives{};  // less one for each
};

// By value and always inlined: an accumulator whose address escapes stays in memory.
#define TENSOMETER_COUNT(order, v)           \
  order.lowest = lower(v, order.lowest);     \
  order.highest = upper(v, order.highest);   \
  order.zeros = count_zeros(order.zeros, v); \
  order.positives = count_positives(order.positives, v);

// Of `finite` elements.
template <class Lane>
TENSOMETER_INLINE void collect(const Order<Lane>& order, std::uint32_t finite, BlockSums& sums) {
  using S = Simd<Lane>;
  alignas(64) Lane lowest[S::lanes], highest[S::lanes];
  alignas(64) typename S::Word zeros[S::lanes], positives[S::lanes];
  store(lowest, order.lowest), store(highest, order.highest);
  store(zeros, order.zeros), store(positives, order.positives);
  for (int half = S::lanes / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) {
      lowest[k] = lowest[k + half] < lowest[k] ? lowest[k + half] : lowest[k];
      highest[k] = highest[k + half] > highest[k] ? highest[k + half] : highest[k];
      zeros[k] += zeros[k + half];
      positives[k] += positives[k + half];
    }
  }
  const double low = static_cast<double>(lowest[0]), high = static_cast<double>(highest[0]);
  sums.min = low < sums.min ? low : sums.min;
  sums.max = high > sums.max ? high : sums.max;
  const std::uint32_t none = 0u - static_cast<std::uint32_t>(zeros[0]);
  sums.zeros += none;
  sums.negatives += finite - none + static_cast<std::uint32_t>(positives[0]);
}

template <class Lane>
TENSOMETER_INLINE void count_one(Lane x, BlockSums& sums) {
  const double value = static_cast<double>(x);
  sums.zeros += value == 0;
  sums.negatives += value < 0;
  sums.min = value < sums.min ? value : sums.min;
  sums.max = value > sums.max ? value : sums.max;
}

TENSOMETER_INLINE VDouble double_lanes(const float* p) { return widen_half(p); }
TENSOMETER_INLINE VDouble double_lanes(const double* p) { return load<VDouble>(p); }

TENSOMETER_INLINE VDouble double_magnitudes(VDouble v) { return magnitude<double>(v); }
TENSOMETER_INLINE VDouble as_they_are(VDouble v) { return v; }

// lane[k] += lane[k + w] for w = count / 2, ..., 2, 1, in float64: whole vectors first, then within the last one.
template <int count, VDouble each(VDouble) = as_they_are, class Lane>
TENSOMETER_INLINE double fold(const Lane* lane) {
  constexpr int width = Simd<double>::lanes, vectors = count / width;
  VDouble wide[vectors / 2];
#pragma GCC unroll 32
  for (int i = 0; i < vectors / 2; ++i) {
    wide[i] = each(double_lanes(lane + i * width)) + each(double_lanes(lane + (i + vectors / 2) * width));
  }
#pragma GCC unroll 8
  for (int half = vectors / 4; half > 0; half /= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < half; ++i) wide[i] += wide[i + half];
  }
  double rest[width];
  store(rest, wide[0]);
  for (int half = width / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) rest[i] += rest[i + half];
  }
  return rest[0];
}

// The sums of two vectors of lanes, starting at `x`, over whole rows. The hot loop: nothing else lives in this function.
// Sweeps fetch what is to come, in order, each its share: what is in no cache is otherwise read at half the speed, where a
// sweep jumps about in memory, and on some processors even where it does not. (To prefetch beyond a tensor's end is harmless.)
template <class Lane, class T>
TENSOMETER_INLINE void sweep_lanes(const T* x, const char* ahead, int rows, typename Simd<Lane>::Vector pivot,
                                   int first_lane, LaneSums<Lane>& out, Order<Lane>& order_out) {
  using V = typename Simd<Lane>::Vector;
  constexpr int terms = static_cast<int>(row_terms), share = terms * Sweep<Lane>::lanes * static_cast<int>(sizeof(T));
  V sum[2] = {}, squares[2] = {}, magnitudes[2] = {};
  Order<Lane> order = order_out;
  for (int row = 0; row < rows; ++row, x += row_size, ahead += share) {
#pragma GCC unroll 16
    for (int at = 0; at < share; at += 64) __builtin_prefetch(ahead + at, 0, 3);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      V d[terms], square[terms], size[terms];
#pragma GCC unroll 4
      for (int term = 0; term < terms; ++term) {
        const V v = load_of_pair(x + term * static_cast<int>(block_lanes), i);
        TENSOMETER_COUNT(order, v)
        d[term] = v - pivot;
        square[term] = d[term] * d[term];
        size[term] = magnitude<Lane>(v);
      }
      sum[i] += (d[0] + d[1]) + (d[2] + d[3]);
      squares[i] += (square[0] + square[1]) + (square[2] + square[3]);
      magnitudes[i] += (size[0] + size[1]) + (size[2] + size[3]);
    }
  }
  store_pair<T>(out.sum + first_lane, sum[0], sum[1]);
  store_pair<T>(out.squares + first_lane, squares[0], squares[1]);
  store_pair<T>(out.magnitudes + first_lane, magnitudes[0], magnitudes[1]);
  order_out = order;
}

// Adds a row to the lanes: skips what is not finite and multiplies by a power of two.
template <class Lane>
TENSOMETER_INLINE void add_careful(const Lane* x, Lane pivot_value, Lane scale_value, LaneSums<Lane>& out) {
  using S = Simd<Lane>;
  using V = typename S::Vector;
  constexpr int terms = static_cast<int>(row_terms);
  const V pivot = broadcast<V>(pivot_value), scale = broadcast<V>(scale_value);
  for (int column = 0; column < static_cast<int>(block_lanes); column += S::lanes) {
    V d[terms], square[terms], size[terms];
#pragma GCC unroll 4
    for (int term = 0; term < terms; ++term) {
      const V v = load_lanes(x + term * static_cast<int>(block_lanes) + column);
      const auto finite = (typename S::Mask)(bits_of<typename S::Mask>(magnitude<Lane>(v)) <
                                             static_cast<decltype(typename S::Mask{}[0] + 0)>(S::infinity_bits));
      const V value = select(finite, v * scale, V{});
      d[term] = select(finite, value - pivot, V{});
      square[term] = d[term] * d[term];
      size[term] = magnitude<Lane>(value);
    }
    store(out.sum + column, load<V>(out.sum + column) + ((d[0] + d[1]) + (d[2] + d[3])));
    store(out.squares + column, load<V>(out.squares + column) + ((square[0] + square[1]) + (square[2] + square[3])));
    store(out.magnitudes + column, load<V>(out.magnitudes + column) + ((size[0] + size[1]) + (size[2] + size[3])));
  }
}

// What a short row lacks becomes NaN, and so is skipped.
template <class Lane>
TENSOMETER_INLINE void pad_row(Lane* row, std::uint32_t count) {
  for (std::uint32_t i = count; i < row_size; ++i) row[i] = std::numeric_limits<Lane>::quiet_NaN();
}

template <class Lane>
TENSOMETER_INLINE void widen_lanes(const Lane* lanes, double* wide) {
#pragma GCC unroll 16
  for (int k = 0; k < static_cast<int>(block_lanes); k += Simd<double>::lanes) {
    store(wide + k, load<VDouble>(wide + k) + double_lanes(lanes + k));
  }
}

template <class Lane>
TENSOMETER_INLINE void widen_sums(const LaneSums<Lane>& lanes, LaneSums<double>& wide) {
  widen_lanes(lanes.sum, wide.sum);
  widen_lanes(lanes.squares, wide.squares);
  widen_lanes(lanes.magnitudes, wide.magnitudes);
}

template <class Lane>
TENSOMETER_INLINE bool finite_value(Lane x) {
  return __builtin_fabs(static_cast<double>(x)) < infinity;
}

// The pivot of `finite` lanes and zeros.
template <class Lane>
TENSOMETER_INLINE Lane pivot_of_row(const Lane* row, unsigned finite, double first) {
  const double mean = fold<row_size>(row) / finite, mean_magnitude = fold<row_size, double_magnitudes>(row) / finite;
  return static_cast<Lane>(round_pivot(mean, mean_magnitude, first));
}

// The pivot of a block whose first row has `count` elements.
template <class Lane>
TENSOMETER_INLINE Lane pivot_of(const Lane* row, std::uint32_t count, Lane scale, bool careful) {
  const double first = static_cast<double>(row[0] * scale);
  if (!careful && count == row_size) return pivot_of_row(row, row_size, first);
  alignas(64) Lane kept[row_size] = {};
  unsigned finite = 0;
  for (std::uint32_t k = 0; k < count; ++k) {
    const bool ok = finite_value(row[k]);
    kept[k] = ok ? row[k] * scale : Lane(0);
    finite += ok;
  }
  return finite == 0 ? Lane(0) : pivot_of_row(kept, finite, first);
}

TENSOMETER_INLINE void finish_sums(const LaneSums<double>& lanes, double pivot, BlockSums& sums) {
  sums.min += 0.0;  // a zero extreme is +0, whichever zero the vectors kept
  sums.max += 0.0;
  sums.pivot = pivot;
  sums.sum = fold<block_lanes>(lanes.sum);
  sums.squares = fold<block_lanes>(lanes.squares);
  sums.magnitudes = fold<block_lanes>(lanes.magnitudes);
}

// The order-free statistics of what a sweep leaves over, and of whole blocks that hold non-finite elements.
template <class Lane>
TENSOMETER_INLINE void count_careful(const Lane* x, std::uint32_t count, BlockSums& sums) {
  using S = Simd<Lane>;
  using V = typename S::Vector;
  using M = typename S::Mask;
  const V highest = broadcast<V>(static_cast<Lane>(infinity)), lowest = broadcast<V>(static_cast<Lane>(-infinity));
  Order<Lane> order;
  M nan{}, posinf{}, neginf{};
  std::uint32_t i = 0;
  for (; i + S::lanes <= count; i += S::lanes) {
    const V v = load_lanes(x + i);
    const M finite = (M)(magnitude<Lane>(v) < highest);
    order.lowest = lower(select(finite, v, highest), order.lowest);
    order.highest = upper(select(finite, v, lowest), order.highest);
    order.zeros += (M)(v == 0);
    order.positives += (M)(v > 0) & finite;
    nan += (M)(v != v);
    posinf += (M)(v == highest);
    neginf += (M)(v == lowest);
  }
  for (int k = 0; k < S::lanes; ++k) {
    sums.nan -= static_cast<std::uint32_t>(nan[k]);
    sums.posinf -= static_cast<std::uint32_t>(posinf[k]);
    sums.neginf -= static_cast<std::uint32_t>(neginf[k]);
  }
  collect(order, i - (sums.nan + sums.posinf + sums.neginf), sums);
  for (; i < count; ++i) {
    sums.nan += x[i] != x[i];
    sums.posinf += x[i] == highest[0];
    sums.neginf += x[i] == lowest[0];
    if (finite_value(x[i])) count_one(x[i], sums);
  }
}

template <class Lane>
TENSOMETER_INLINE double largest_magnitude(const BlockSums& sums) {
  const double low = __builtin_fabs(sums.min), high = __builtin_fabs(sums.max);
  return low > high ? low : high;
}

// A block with non-finite elements, or with magnitudes whose squares would leave the lane type's range.
template <class Lane>
__attribute__((noinline)) void careful_sums(const Lane* x, std::uint32_t count, BlockSums& sums) {
  sums = BlockSums{};
  sums.count = count;
  count_careful(x, count, sums);
  if (sums.nan + sums.posinf + sums.neginf == count) return;
  sums.exponent = block_exponent<Lane>(largest_magnitude<Lane>(sums));
  const Lane scale = static_cast<Lane>(__builtin_ldexp(1.0, -sums.exponent));
  const Lane pivot = pivot_of(x, count < row_size ? count : row_size, scale, true);
  LaneSums<double> wide = {};
  for (std::uint32_t at = 0; at < count;) {
    LaneSums<Lane> lanes = {};
    for (unsigned row = 0; row < lane_rows && at < count; ++row, at += row_size) {
      if (count - at >= row_size) {
        add_careful(x + at, pivot, scale, lanes);
      } else {
        alignas(64) Lane rest[row_size];
        std::memcpy(rest, x + at, (count - at) * sizeof(Lane));
        pad_row(rest, count - at);
        add_careful(rest, pivot, scale, lanes);
      }
    }
    widen_sums(lanes, wide);
  }
  finish_sums(wide, static_cast<double>(pivot), sums);
}

// All statistics of a block whose elements need no care, or the news that they do.
template <class Lane, class T>
TENSOMETER_INLINE void plain_sums(const T* x, std::uint32_t count, BlockSums& sums) {
  constexpr int several = static_cast<int>(lane_rows), sweep = Sweep<Lane>::lanes;
  const std::uint32_t rest = count % row_size, first_row = count < row_size ? count : row_size;
  alignas(64) Lane row[row_size];
  widen_block(x, first_row, row);
  const Lane pivot = pivot_of(row, first_row, Lane(1), false);
  const auto pivots = broadcast<typename Simd<Lane>::Vector>(pivot);
  Order<Lane> order;
  LaneSums<Lane> lanes;
  LaneSums<double> wide = {};
  for (int rows = static_cast<int>(count / row_size); rows > 0 || (rows == 0 && rest != 0); rows -= several) {
    const int now = rows < several ? rows : several;
    const char* ahead = reinterpret_cast<const char*>(x) + bytes_ahead;
    for (int lane = 0; lane < static_cast<int>(block_lanes); lane += sweep) {
      sweep_lanes(x + lane, ahead, now, pivots, lane, lanes, order);
      ahead += now * static_cast<int>(row_terms * sizeof(T)) * sweep;
    }
    x += now * static_cast<int>(row_size);
    if (now < several && rest != 0) {
      widen_block(x, rest, row);
      count_careful(row, rest, sums);
      pad_row(row, rest);
      add_careful(row, pivot, Lane(1), lanes);
    }
    widen_sums(lanes, wide);
  }
  if (count >= row_size) collect(order, count - rest, sums);
  finish_sums(wide, static_cast<double>(pivot), sums);
}

// Non-finite elements of a short row are counted, those of the others reach the sums.
template <class Lane>
TENSOMETER_INLINE bool needs_care(const BlockSums& sums) {
  return sums.nan + sums.posinf + sums.neginf != 0 || !(sums.magnitudes < infinity) ||
         block_exponent<Lane>(largest_magnitude<Lane>(sums)) != 0;
}

// One row, in float64 lanes whatever the type.
template <class T>
TENSOMETER_INLINE void one_row(const T* x, std::uint32_t count, BlockSums& sums) {
  using Lane = LaneOf<T>;
  alignas(64) double row[row_size];
  if constexpr (std::is_same_v<Lane, double>) {
    widen_block(x, count, row);
  } else {
    alignas(64) Lane lanes[row_size];
    widen_block(x, count, lanes);
    for (std::uint32_t i = 0; i < count; ++i) row[i] = static_cast<double>(lanes[i]);
  }
  plain_sums<double>(row, count, sums);
  if (needs_care<double>(sums)) careful_sums(row, count, sums);
}

template <class T>
void block_sums(const void* data, std::uint32_t count, BlockSums& sums) {
  using Lane = LaneOf<T>;
  const T* x = static_cast<const T*>(data);
  sums = BlockSums{};
  sums.count = count;
  if (count == 0) return;
  if (count <= row_size) {
    one_row(x, count, sums);
    return;
  }
  plain_sums<Lane>(x, count, sums);
  if (needs_care<Lane>(sums)) {
    alignas(64) Lane lanes[block_size];
    widen_block(x, count, lanes);
    careful_sums(lanes, count, sums);
  }
}

template <class T>
void widen_kernel(const void* data, std::uint32_t count, void* lanes) {
  widen_block(static_cast<const T*>(data), count, static_cast<LaneOf<T>*>(lanes));
}

}  // namespace

extern const BlockKernels TENSOMETER_CONCAT(block_kernels_, TENSOMETER_ISA);
const BlockKernels TENSOMETER_CONCAT(block_kernels_, TENSOMETER_ISA) = {
#define TENSOMETER_ROW(name, storage, lanes) TENSOMETER_ENTRY_##lanes(&block_sums<storage>),
    {TENSOMETER_DTYPES(TENSOMETER_ROW)},
#undef TENSOMETER_ROW
#define TENSOMETER_ROW(name, storage, lanes) TENSOMETER_ENTRY_##lanes(&widen_kernel<storage>),
    {TENSOMETER_DTYPES(TENSOMETER_ROW)},
#undef TENSOMETER_ROW
};

}  // namespace tensometer
