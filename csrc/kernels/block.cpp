// The sums of one block, for the instruction set this file is compiled for.
//
// A sweep runs over all rows of some columns with every accumulator in a register. 32 vector registers hold the three
// sums of eight vectors, which on a machine with 64-byte vectors are all 128 lanes of float32: one sweep. With 16
// registers a sweep has two vectors: six sums are just enough to hide the latency of an addition (two adders, three
// cycles), and six more registers take what depends on no order, the pivot and the masks.
#include "kernels/kernels.hpp"
#include "simd.hpp"

namespace tensometer {
namespace {

template <class Lane>
struct Shape {
  static constexpr int lanes = Simd<Lane>::lanes;
  static constexpr int vectors = vector_registers == 32 ? 8 : 2;
  static constexpr int sweep = vectors * lanes;
  static constexpr int sweeps = static_cast<int>(block_lanes) / sweep;
};

// The lanes of one half of a block's rows.
template <class Lane>
struct LaneSums {
  alignas(64) Lane sum[block_lanes], squares[block_lanes], magnitudes[block_lanes];
};
template <class Lane>
struct Halves {
  LaneSums<Lane> first, second;
  bool both = false;  // whether there are rows in the second half
};
inline constexpr int half_rows = static_cast<int>(block_rows) / 2;

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

// lane[k] += lane[k + w] for w = 64, 32, ..., 1, in float64: whole vectors first, then within the last one. With two halves
// a lane is the sum of both.
template <bool halves, class Lane>
TENSOMETER_INLINE double fold(const Lane* lane, const Lane* second) {
  constexpr int width = Simd<double>::lanes, vectors = static_cast<int>(block_lanes) / width;
  VDouble wide[vectors / 2];
#pragma GCC unroll 32
  for (int i = 0; i < vectors / 2; ++i) {
    VDouble low = double_lanes(lane + i * width), high = double_lanes(lane + (i + vectors / 2) * width);
    if constexpr (halves) {
      low += double_lanes(second + i * width);
      high += double_lanes(second + (i + vectors / 2) * width);
    }
    wide[i] = low + high;
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

// The lanes of `sweep` columns starting at `x`, over all rows. The hot loop: nothing else lives in this function.
// Where a block takes several sweeps, each fetches its share of the next block meanwhile, in order: strided sweeps that
// find their memory in no cache run at less than half the speed. (To prefetch beyond a tensor's end is harmless.)
template <class Lane, class T>
TENSOMETER_INLINE void sweep_columns(const T* x, const char* ahead, int rows, Lane pivot_value, int column,
                                     LaneSums<Lane>& out, Order<Lane>& order_out) {
  using V = typename Simd<Lane>::Vector;
  constexpr int vectors = Shape<Lane>::vectors, lanes = Simd<Lane>::lanes;
  const V pivot = broadcast<V>(pivot_value);
  V sum[vectors] = {}, squares[vectors] = {}, magnitudes[vectors] = {};
  Order<Lane> order = order_out;
  for (int row = 0; row < rows; ++row, x += block_lanes) {
    if constexpr (Shape<Lane>::sweeps > 1) {
      constexpr int share = Shape<Lane>::sweep * static_cast<int>(sizeof(T)), line = 64;
#pragma GCC unroll 8
      for (int at = 0; at < share; at += line) __builtin_prefetch(ahead + at, 0, 2);
      ahead += share;
    }
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i += 2) {
      V v[2];
      load_pair(x + i * lanes, v[0], v[1]);
#pragma GCC unroll 2
      for (int k = 0; k < 2; ++k) {
        TENSOMETER_COUNT(order, v[k])
        const V d = v[k] - pivot;
        sum[i + k] += d;
        squares[i + k] += d * d;
        magnitudes[i + k] += magnitude<Lane>(v[k]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < vectors; i += 2) {
    const int at = column + i * lanes;
    store_pair<T>(out.sum + at, sum[i], sum[i + 1]);
    store_pair<T>(out.squares + at, squares[i], squares[i + 1]);
    store_pair<T>(out.magnitudes + at, magnitudes[i], magnitudes[i + 1]);
  }
  order_out = order;
}

// As sweep_columns, but skips what is not finite and multiplies by a power of two.
template <class Lane>
TENSOMETER_INLINE void sweep_careful(const Lane* x, int rows, Lane pivot_value, Lane scale_value, int column,
                                     LaneSums<Lane>& out) {
  using S = Simd<Lane>;
  using V = typename S::Vector;
  constexpr int vectors = Shape<Lane>::vectors, lanes = S::lanes;
  const V pivot = broadcast<V>(pivot_value), scale = broadcast<V>(scale_value);
  V sum[vectors] = {}, squares[vectors] = {}, magnitudes[vectors] = {};
  for (int row = 0; row < rows; ++row, x += block_lanes) {
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i) {
      const V v = load_lanes(x + i * lanes), size = magnitude<Lane>(v);
      const auto finite = (typename S::Mask)(bits_of<typename S::Mask>(size) <
                                             static_cast<decltype(typename S::Mask{}[0] + 0)>(S::infinity_bits));
      const V value = select(finite, v * scale, V{});
      const V d = select(finite, value - pivot, V{});
      sum[i] += d;
      squares[i] += d * d;
      magnitudes[i] += magnitude<Lane>(value);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < vectors; ++i) {
    store(out.sum + column + i * lanes, sum[i]);
    store(out.squares + column + i * lanes, squares[i]);
    store(out.magnitudes + column + i * lanes, magnitudes[i]);
  }
}

template <class Lane>
TENSOMETER_INLINE bool finite_value(Lane x) {
  return __builtin_fabs(static_cast<double>(x)) < infinity;
}

// The pivot: round_pivot of the mean of the first row's finite elements, times scale.
template <class Lane>
TENSOMETER_INLINE Lane pivot_of(const Lane* row, std::uint32_t count, Lane scale, bool careful) {
  const double first = static_cast<double>(row[0] * scale);
  if (!careful && count == block_lanes) {
    return static_cast<Lane>(round_pivot(fold<false>(row, row) / block_lanes, first));
  }
  alignas(64) Lane kept[block_lanes] = {};
  unsigned finite = 0;
  for (std::uint32_t k = 0; k < count; ++k) {
    const bool ok = finite_value(row[k]);
    kept[k] = ok ? row[k] * scale : Lane(0);
    finite += ok;
  }
  if (finite == 0) return Lane(0);
  return static_cast<Lane>(round_pivot(fold<false>(kept, kept) / finite, first));
}

template <class Lane>
TENSOMETER_INLINE void finish_sums(const Halves<Lane>& lanes, Lane pivot, BlockSums& sums) {
  sums.min += 0.0;  // a zero extreme is +0, whichever zero the vectors kept
  sums.max += 0.0;
  sums.pivot = static_cast<double>(pivot);
  const LaneSums<Lane>&a = lanes.first, &b = lanes.second;
  if (lanes.both) {
    sums.sum = fold<true>(a.sum, b.sum);
    sums.squares = fold<true>(a.squares, b.squares);
    sums.magnitudes = fold<true>(a.magnitudes, b.magnitudes);
  } else {
    sums.sum = fold<false>(a.sum, a.sum);
    sums.squares = fold<false>(a.squares, a.squares);
    sums.magnitudes = fold<false>(a.magnitudes, a.magnitudes);
  }
}

// The last, short row of a block: `count` < 128 elements onto the first lanes. Unless `careful`, whatever is not finite
// reaches the sums, which is how needs_care learns of it.
template <bool careful, class Lane>
TENSOMETER_INLINE void add_row(const Lane* row, std::uint32_t count, Lane pivot, Lane scale, LaneSums<Lane>& lanes) {
  for (std::uint32_t k = 0; k < count; ++k) {
    const bool ok = !careful || finite_value(row[k]);
    const Lane value = ok ? row[k] * scale : Lane(0), d = ok ? value - pivot : Lane(0);
    lanes.sum[k] += d;
    lanes.squares[k] += d * d;
    lanes.magnitudes[k] += static_cast<Lane>(__builtin_fabs(value));
  }
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
  constexpr int sweep = Shape<Lane>::sweep;
  sums = BlockSums{};
  sums.count = count;
  count_careful(x, count, sums);
  if (sums.nan + sums.posinf + sums.neginf == count) return;
  sums.exponent = block_exponent<Lane>(largest_magnitude<Lane>(sums));
  const Lane scale = static_cast<Lane>(__builtin_ldexp(1.0, -sums.exponent));
  const Lane pivot = pivot_of(x, count < block_lanes ? count : block_lanes, scale, true);
  const int rows = static_cast<int>(count / block_lanes);
  const std::uint32_t rest = count % block_lanes;
  const int early = rows < half_rows ? rows : half_rows, late = rows - early;
  Halves<Lane> lanes;
  lanes.both = late != 0 || (early == half_rows && rest != 0);
  const Lane* middle = x + early * static_cast<int>(block_lanes);
  for (int column = 0; column < static_cast<int>(block_lanes); column += sweep) {
    sweep_careful(x + column, early, pivot, scale, column, lanes.first);
    if (lanes.both) sweep_careful(middle + column, late, pivot, scale, column, lanes.second);
  }
  add_row<true>(x + rows * static_cast<int>(block_lanes), rest, pivot, scale, lanes.both ? lanes.second : lanes.first);
  finish_sums(lanes, pivot, sums);
}

// All statistics of a block whose elements need no care, or the news that they do.
template <class Lane, class T>
TENSOMETER_INLINE void plain_sums(const T* x, std::uint32_t count, BlockSums& sums) {
  constexpr int sweep = Shape<Lane>::sweep;
  const int rows = static_cast<int>(count / block_lanes);
  const std::uint32_t rest = count % block_lanes, first_row = rows != 0 ? block_lanes : rest;
  alignas(64) Lane row[block_lanes];
  widen_block(x, first_row, row);
  const Lane pivot = pivot_of(row, first_row, Lane(1), false);
  const int early = rows < half_rows ? rows : half_rows, late = rows - early;
  Halves<Lane> lanes;
  lanes.both = late != 0 || (early == half_rows && rest != 0);
  Order<Lane> order;
  const T* middle = x + early * static_cast<int>(block_lanes);
  const char* ahead = reinterpret_cast<const char*>(x) + sizeof(T) * block_size;
  for (int column = 0; column < static_cast<int>(block_lanes); column += sweep) {
    constexpr int share = sweep * static_cast<int>(sizeof(T));
    sweep_columns(x + column, ahead, early, pivot, column, lanes.first, order);
    if (lanes.both) sweep_columns(middle + column, ahead + share * early, late, pivot, column, lanes.second, order);
    ahead += share * rows;
  }
  if (rest != 0) {
    widen_block(x + rows * static_cast<int>(block_lanes), rest, row);
    add_row<false>(row, rest, pivot, Lane(1), lanes.both ? lanes.second : lanes.first);
    count_careful(row, rest, sums);
  }
  if (rows != 0) collect(order, static_cast<std::uint32_t>(rows) * block_lanes, sums);
  finish_sums(lanes, pivot, sums);
}

template <class Lane>
TENSOMETER_INLINE bool needs_care(const BlockSums& sums) {
  return !(sums.magnitudes < infinity) || block_exponent<Lane>(largest_magnitude<Lane>(sums)) != 0;
}

// One row, in float64 lanes whatever the type.
template <class T>
TENSOMETER_INLINE void one_row(const T* x, std::uint32_t count, BlockSums& sums) {
  using Lane = LaneOf<T>;
  alignas(64) double row[block_lanes];
  if constexpr (std::is_same_v<Lane, double>) {
    widen_block(x, count, row);
  } else {
    alignas(64) Lane lanes[block_lanes];
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
  if (count <= block_lanes) {
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
