// Some blocks of a pair by one thread block: a warp takes every eighth of them.
#pragma once

#include "cuda/finish.hpp"
#include "cuda/pair_fast.hpp"

namespace tensometer::cuda {

// Whether whole blocks of a tensor may be read by 16 bytes.
TENSOMETER_DEVICE bool lies_in_words(const Tensor& tensor) {
  return tensor.dims == 0 && reinterpret_cast<std::uintptr_t>(tensor.data) % sizeof(Words) == 0;
}

// Whether the difference is counted in shared memory.
TENSOMETER_DEVICE bool counts_in_shared(const PairShared& shared) {
  const Tensor& tensor = shared.pair.tensors[0];
  return static_cast<HistogramMode>(tensor.histogram) != HistogramMode::none && tensor.resolution <= shared_resolution;
}

// How many blocks of an item are whole ones that may be read by 16 bytes: the first ones.
TENSOMETER_DEVICE std::uint32_t fast_blocks_of(const PairShared& shared) {
  const Tensor &a = shared.pair.tensors[0], &b = shared.pair.tensors[1];
  const auto dtype = static_cast<DType>(a.dtype);
  const bool narrow = dtype == DType::k_float32 || dtype == DType::k_bfloat16 || dtype == DType::k_float16;
  if (!narrow || !lies_in_words(a) || !lies_in_words(b)) return 0;
  const std::uint64_t left = a.count / block_size - shared.item.first_block;
  return left < shared.item.blocks ? static_cast<std::uint32_t>(left) : shared.item.blocks;
}

// The fast ones, and whether they need care after all.
template <bool updates>
TENSOMETER_DEVICE void compare_fast(PairShared& shared) {
#pragma unroll 1
  for (std::uint32_t b = threadIdx.x / 32; b < fast_blocks_of(shared); b += reduce_warps) {
    const PairBlock block{shared, b};
    const bool good = fast_pair<updates>(shared, b, counts_in_shared(shared) ? block.weight() : 0, threadIdx.x % 32);
    if (threadIdx.x % 32 == 0) shared.careful[b] = !good;
  }
}

TENSOMETER_DEVICE bool needs_care(const PairShared& shared, std::uint32_t b) {
  return b >= fast_blocks_of(shared) || shared.careful[b] != 0;
}

// The others, and those: in two loops, each of which leaves little in registers.
TENSOMETER_DEVICE void compare_careful(PairShared& shared) {
  const unsigned warp = threadIdx.x / 32, thread = threadIdx.x % 32;
#pragma unroll 1
  for (std::uint32_t b = warp; b < shared.item.blocks; b += reduce_warps) {
    if (!needs_care(shared, b)) continue;
    careful_totals({shared, b}, shared.exchange[warp], b < fast_blocks_of(shared), shared.blocks[b]);
  }
  __syncthreads();
#pragma unroll 1
  for (std::uint32_t b = warp; b < shared.item.blocks; b += reduce_warps) {
    if (!needs_care(shared, b)) continue;
    const PairBlock block{shared, b};
    auto* lanes = reinterpret_cast<double (*)[block_lanes]>(shared.exchange[warp].lanes);
    careful_block(block, block.count(), lanes, thread, shared.blocks[b].difference.raw.sums);
  }
  __syncthreads();
}

// What the fast ones have not counted.
TENSOMETER_DEVICE void count_rest(PairShared& shared, unsigned long long* tables) {
  const bool in_shared = counts_in_shared(shared);
  const std::uint32_t counted = in_shared ? fast_blocks_of(shared) : 0;
#pragma unroll 1
  for (std::uint32_t b = counted + threadIdx.x / 32; b < shared.item.blocks; b += reduce_warps) {
    const PairBlock block{shared, b};
    if (block.weight() == 0) continue;
    count_difference(block, {in_shared ? counters_behind(shared) : nullptr, tables + block.old_tensor().first_counter});
  }
}

// A group's records fold left to right, as on a CPU; that of the difference by one thread, the totals by another.
TENSOMETER_DEVICE void write_parts(PairShared& shared, PairPart* records) {
  const unsigned i = threadIdx.x;
  if (i < shared.item.blocks) {
    const BlockSums sums = shared.blocks[i].difference.raw.sums;
    const bool narrow = has_float_lanes(static_cast<DType>(shared.pair.tensors[0].dtype));
    shared.blocks[i].difference.summary = finish_block(sums, !narrow);
  }
  __syncthreads();
  PairPart* mine = records + shared.item.record;
  const bool whole = shared.pair.tensors[0].grouped != 0 && shared.item.blocks == fold_width;
  PairSlot& first = shared.blocks[0];
#pragma unroll 1
  for (unsigned k = 1; whole && i == 0 && k < fold_width; ++k) {
    merge_in_turn(first.difference.summary, shared.blocks[k].difference.summary);
  }
#pragma unroll 1
  for (unsigned k = 1; whole && i == 32 && k < fold_width; ++k) {
    merge(first.totals, shared.blocks[k].totals);
    first.along_last += shared.blocks[k].along_last;
  }
  __syncthreads();
  if (i < (whole ? 1 : shared.item.blocks)) {
    mine[i] = {shared.blocks[i].difference.summary, shared.blocks[i].totals, shared.blocks[i].along_last};
  }
}

TENSOMETER_DEVICE void compare_item(PairShared& shared, unsigned long long* tables, PairPart* records) {
  if (shared.pair.last == nullptr) {
    compare_fast<false>(shared);
  } else {
    compare_fast<true>(shared);
  }
  __syncthreads();
  compare_careful(shared);
  count_rest(shared, tables);
  write_parts(shared, records);
}

}  // namespace tensometer::cuda
