#include "fingerprint.hpp"

#include <cstring>

#include "hash.hpp"

namespace tensometer {
std::uint64_t hash_block(const void* data, std::size_t bytes, std::uint64_t block_index) {
  std::uint64_t chain[hash_chains] = {};
  const auto* p = static_cast<const std::byte*>(data);
  const auto take = [&chain](std::uint64_t word, std::size_t k, std::uint64_t index) {
    chain[k] += mixed_word(word, index);
    chain[k ^ 1] += word;
  };
  std::uint64_t index = 0;
  std::size_t at = 0;
  for (; at + 8 * hash_chains <= bytes; at += 8 * hash_chains) {
    for (std::size_t k = 0; k < hash_chains; ++k, ++index) {
      std::uint64_t word;
      std::memcpy(&word, p + at + 8 * k, 8);
      take(word, k, index);
    }
  }
  for (std::size_t k = 0; at < bytes; at += 8, ++k, ++index) {
    std::uint64_t word = 0;
    std::memcpy(&word, p + at, bytes - at < 8 ? bytes - at : 8);
    take(word, k, index);
  }
  return finish_hash(chain, bytes, block_index);
}

std::uint64_t finish_fingerprint(std::uint64_t blocks, DType dtype, std::span<const std::int64_t> shape,
                                 std::span<const std::uint32_t> order) {
  std::uint64_t hash = mix(blocks ^ golden * (static_cast<std::uint64_t>(dtype) + 1));
  for (const std::int64_t extent : shape) hash = mix(hash ^ (static_cast<std::uint64_t>(extent) + golden));
  for (const std::uint32_t dim : order) hash = mix(hash ^ ~std::uint64_t{dim});
  return hash;
}

}  // namespace tensometer
