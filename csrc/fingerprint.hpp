// A 64-bit hash of a tensor's bits and shape. Blocks hash on their own and add up, so threads and cuts do not matter.
// It tells equal from different by accident; it is no defence against someone who builds collisions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dtype.hpp"

namespace tensometer {

// The contribution of one block: its bytes and its position. Sums of these (modulo 2^64) are the hash of the elements.
std::uint64_t hash_block(const void* data, std::size_t bytes, std::uint64_t block_index);

// The fingerprint from the summed block hashes. `order` is ElementReader's: equal tensors that lie differently in memory
// differ in it. The empty tensor has a fingerprint too.
std::uint64_t finish_fingerprint(std::uint64_t blocks, DType dtype, std::span<const std::int64_t> shape,
                                 std::span<const std::uint32_t> order);

}  // namespace tensometer
