// An item, some blocks of a tensor, by one thread block: a warp takes every eighth of them.
#pragma once

#include "cuda/bytes.hpp"
#include "cuda/careful.hpp"
#include "cuda/count.hpp"
#include "cuda/hashing.hpp"
#include "cuda/shared.hpp"
#include "cuda/whole.hpp"

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

// Group records fold left to right, as on a CPU.
TENSOMETER_DEVICE void write_records(Shared& shared, Summary* records) {
  const auto dtype = static_cast<DType>(shared.tensor.dtype);
  const bool wide_exponent = dtype == DType::k_float64 || lanes_of(dtype) == Lanes::magnitude;
  const unsigned i = thread_index();
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
    // In place: two summaries are more than there are registers.
    Summary& group = shared.blocks[0].summary;
#pragma unroll 1
    for (unsigned k = 1; k < fold_width; ++k) merge(group, shared.blocks[k].summary);
    records[shared.item.record] = group;
  }
}

// The block that a warp is at the end of, as a thread sees it.
struct OwnBlock {
  unsigned thread;
  Work& work;
  std::uint64_t index, number;  // in the tensor, and in the whole that it is a piece of
  std::uint32_t count;          // elements
  Elements elements;
  Slot& slot;

  TENSOMETER_DEVICE OwnBlock(Shared& shared, unsigned all)
      : thread(all % 32), work(shared.work[all / 32]), index(shared.item.first_block + work.block),
        number(shared.tensor.first_block + index), count(elements_of_block(shared.tensor, index)),
        elements(shared.tensor, index * block_size), slot(shared.blocks[work.block]) {}

  TENSOMETER_DEVICE static std::uint32_t elements_of_block(const Tensor& tensor, std::uint64_t index) {
    const std::uint64_t left = tensor.count - index * block_size;
    return static_cast<std::uint32_t>(left < block_size ? left : block_size);
  }
};

TENSOMETER_DEVICE void end_integers(const OwnBlock& own) {
  if (own.thread == 0) own.slot.raw.integer_min = INT64_MAX, own.slot.raw.integer_max = INT64_MIN;
  if (own.elements.dtype == DType::k_int64 || own.elements.dtype == DType::k_uint64) {
    integer_extremes(own.elements, own.count, own.thread, own.slot);
  }
}

// Counts a block that the fast way did not count.
TENSOMETER_DEVICE void count_rest(Shared& shared, const OwnBlock& own, unsigned long long* tables) {
  const std::uint32_t weight = block_weight(static_cast<HistogramMode>(shared.tensor.histogram), own.number);
  const bool in_shared = counts_in_shared(shared.tensor);
  if (weight == 0 || (in_shared && own.work.block < fast_count(shared))) return;
  const Counters counters{in_shared ? counters_behind(shared) : nullptr, tables + shared.tensor.first_counter};
  count_block(own.elements, own.count, counters, weight, own.thread);
}

// What is left to do for a block, whether its sums are known or not, by one warp. Of bytes, which are counted, the hash.
TENSOMETER_DEVICE void end_block(Shared& shared, unsigned long long* tables, std::uint64_t* hashes) {
  if (!is_bytes(shared.tensor)) {
    OwnBlock own(shared, thread_index());
    if (own.work.block >= fast_count(shared) || shared.careful[own.work.block] != 0) {
      careful_block(own.elements, own.count, own.work.lanes, own.thread, own.slot.raw.sums);
    }
    end_integers(OwnBlock(shared, thread_index()));
    count_rest(shared, OwnBlock(shared, thread_index()), tables);
  }
  if (shared.tensor.fingerprint == 0) return;
  const OwnBlock own(shared, thread_index());
  hash_block(own.elements, own.count, own.number, own.thread, own.work.hashes, hashes + shared.item.tensor);
}

// Makes block `b` of an item a warp's. Whether there is one.
TENSOMETER_DEVICE bool set_end(Shared& shared, std::uint32_t b) {
  const unsigned index = thread_index();
  __syncwarp(whole_warp);
  if (index % 32 == 0) shared.work[index / 32].block = b;
  __syncwarp(whole_warp);
  return b < shared.item.blocks;
}

// The blocks of an item, by all its threads: counted, and hashed if that is asked for; but of bytes, records are written.
TENSOMETER_DEVICE void reduce_item(Shared& shared, Summary* records, unsigned long long* tables,
                                   std::uint64_t* hashes) {
  if (is_bytes(shared.tensor)) {
    count_bytes(shared.tensor, shared.item, counters_behind(shared));
  } else {
    reduce_whole(shared);
  }
  __syncthreads();
  bool more = set_end(shared, thread_index() / 32);
#pragma unroll 1
  for (; more; more = set_end(shared, shared.work[thread_index() / 32].block + reduce_warps)) {
    end_block(shared, tables, hashes);
  }
  __syncthreads();
  if (!is_bytes(shared.tensor)) write_records(shared, records);
}

}  // namespace tensometer::cuda
