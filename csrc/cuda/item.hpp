// An item, some blocks of a tensor, by one thread block: a warp takes every eighth of them.
#pragma once

#include "cuda/bytes.hpp"
#include "cuda/careful.hpp"
#include "cuda/count.hpp"
#include "cuda/fast.hpp"
#include "cuda/hashing.hpp"
#include "cuda/shared.hpp"

namespace tensometer::cuda {

// The whole numbers that float64 cannot hold, of a block of 64-bit integers; ordered as int64.
TENSOMETER_DEVICE void integer_extremes(const Elements& elements, std::uint32_t count, unsigned thread, Slot& slot) {
  const std::uint64_t flip = elements.dtype == DType::k_uint64 ? std::uint64_t{1} << 63 : 0;
  std::int64_t low = INT64_MAX, high = INT64_MIN;
#pragma unroll 1
  for (std::uint32_t i = thread; i < count; i += 32) {
    const auto value = static_cast<std::int64_t>(load<std::uint64_t>(elements.at(i)) ^ flip);
    low = value < low ? value : low;
    high = value > high ? value : high;
  }
  low = lowest_of_warp(low), high = highest_of_warp(high);
  if (thread == 0) slot.raw.integer_min = low, slot.raw.integer_max = high;
}

// Whether the blocks of a tensor may be read by 16 bytes.
TENSOMETER_DEVICE bool is_aligned(const Tensor& tensor) {
  return tensor.dims == 0 && reinterpret_cast<std::uintptr_t>(tensor.data) % sizeof(Words) == 0;
}

// All blocks of an item that are whole, of a tensor that is aligned. Leaves their sums, and marks those that need care.
template <class T, bool counts>
TENSOMETER_DEVICE void reduce_fast(Shared& shared, std::uint32_t whole, std::uint32_t* counters) {
  constexpr unsigned at_once = Pack<T>::blocks;
  const unsigned warp = threadIdx.x / 32, thread = threadIdx.x % 32;
#pragma unroll 1
  for (std::uint32_t b = warp * at_once; b < whole; b += reduce_warps * at_once) {
    const std::uint64_t block = shared.item.first_block + b;
    const unsigned wanted = whole - b < at_once ? whole - b : at_once;
    Counting counting{counters, 23u - shared.tensor.resolution, 0};
    if constexpr (counts) {
      counting.weight =
          block_weight(static_cast<HistogramMode>(shared.tensor.histogram), block + thread / Pack<T>::team);
    }
    const auto* data = static_cast<const unsigned char*>(shared.tensor.data) + block * block_size * sizeof(T);
    fast_blocks<T, counts>(data, wanted, counting, shared.exchange[warp], thread, &shared.blocks[b],
                           &shared.careful[b]);
  }
}

template <class T>
TENSOMETER_DEVICE void reduce_fast(Shared& shared, std::uint32_t whole, std::uint32_t* counters) {
  if (counters == nullptr) {
    reduce_fast<T, false>(shared, whole, counters);
  } else {
    reduce_fast<T, true>(shared, whole, counters);
  }
}

// How many blocks of the item, from its first on, were reduced by the fast way, and counted if `counters` is not null.
TENSOMETER_DEVICE std::uint32_t reduce_whole(Shared& shared, std::uint32_t* counters) {
  const Tensor& tensor = shared.tensor;
  const std::uint64_t left = tensor.count / block_size - shared.item.first_block;
  const auto whole = static_cast<std::uint32_t>(left < shared.item.blocks ? left : shared.item.blocks);
  if (tensor.dims != 0 || reinterpret_cast<std::uintptr_t>(tensor.data) % sizeof(Words) != 0) return 0;
  // Whole numbers of more than a byte are seldom large: they have no fast way, and the image stays small.
  switch (static_cast<DType>(tensor.dtype)) {
  case DType::k_float32:
    reduce_fast<float>(shared, whole, counters);
    return whole;
  case DType::k_bfloat16:
    reduce_fast<bfloat16>(shared, whole, counters);
    return whole;
  case DType::k_float16:
    reduce_fast<float16>(shared, whole, counters);
    return whole;
  case DType::k_float64:
    reduce_fast<double>(shared, whole, counters);
    return whole;
  default:
    return 0;
  }
}

// Group records fold left to right, as on a CPU.
TENSOMETER_DEVICE void write_records(Shared& shared, Summary* records) {
  const auto dtype = static_cast<DType>(shared.tensor.dtype);
  const bool wide_exponent = dtype == DType::k_float64 || lanes_of(dtype) == Lanes::magnitude;
  const unsigned i = threadIdx.x;
  if (i < shared.item.blocks) {
    const auto raw = shared.blocks[i].raw;
    Summary s = finish_block(raw.sums, wide_exponent);
    s.integer_min = raw.integer_min, s.integer_max = raw.integer_max;
    shared.blocks[i].summary = s;
  }
  __syncthreads();
  if (shared.tensor.grouped == 0 || shared.item.blocks < fold_width) {
    if (i < shared.item.blocks) records[shared.item.record + i] = shared.blocks[i].summary;
  } else if (i == 0) {
    Summary group = shared.blocks[0].summary;
#pragma unroll 1
    for (unsigned k = 1; k < fold_width; ++k) merge(group, shared.blocks[k].summary);
    records[shared.item.record] = group;
  }
}

// What is left to do for a block, whether its sums are known or not, by one warp.
TENSOMETER_DEVICE void end_block(Shared& shared, std::uint32_t b, bool careful, bool counted, const Counters& counters,
                                 std::uint64_t* hash) {
  const unsigned thread = threadIdx.x % 32;
  const std::uint64_t block = shared.item.first_block + b, first = block * block_size;
  const std::uint64_t left = shared.tensor.count - first;
  const auto count = static_cast<std::uint32_t>(left < block_size ? left : block_size);
  const Elements elements(shared.tensor, first);
  Slot& slot = shared.blocks[b];
  if (careful) {
    careful_block(elements, count, shared.exchange[threadIdx.x / 32].lanes[0], thread, slot.raw.sums);
  }
  if (thread == 0) slot.raw.integer_min = INT64_MAX, slot.raw.integer_max = INT64_MIN;
  if (elements.dtype == DType::k_int64 || elements.dtype == DType::k_uint64) {
    integer_extremes(elements, count, thread, slot);
  }
  const std::uint32_t weight = block_weight(static_cast<HistogramMode>(shared.tensor.histogram), block);
  if (!counted && weight != 0) count_block(elements, count, counters, weight, thread);
  if (shared.tensor.fingerprint != 0) hash_block(elements, count, block, thread, hash);
}

TENSOMETER_DEVICE void reduce_item(Shared& shared, const Counters& counters, Summary* records, std::uint64_t* hash) {
  const std::uint32_t whole = reduce_whole(shared, counters.shared);
  __syncthreads();
#pragma unroll 1
  for (std::uint32_t b = threadIdx.x / 32; b < shared.item.blocks; b += reduce_warps) {
    const bool careful = b >= whole || shared.careful[b] != 0, counted = b < whole && counters.shared != nullptr;
    end_block(shared, b, careful, counted, counters, hash);
  }
  __syncthreads();
  write_records(shared, records);
}

// The same of a one-byte type: its bytes are counted, and hashed.
TENSOMETER_DEVICE void reduce_bytes(Shared& shared, std::uint32_t* counters, std::uint64_t* hash) {
  count_bytes(shared.tensor, shared.item, counters);
  if (shared.tensor.fingerprint == 0) return;
#pragma unroll 1
  for (std::uint32_t b = threadIdx.x / 32; b < shared.item.blocks; b += reduce_warps) {
    const std::uint64_t block = shared.item.first_block + b, left = shared.tensor.count - block * block_size;
    const auto count = static_cast<std::uint32_t>(left < block_size ? left : block_size);
    hash_block(Elements(shared.tensor, block * block_size), count, block, threadIdx.x % 32, hash);
  }
}

}  // namespace tensometer::cuda
