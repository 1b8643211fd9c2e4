#include "fingerprint.hpp"

#include <cstring>

namespace tensometer {
namespace {

// Odd constants: 2^64 / golden ratio, and the two of the SplitMix64 finaliser (Steele, Lea, Flood 2014).
constexpr std::uint64_t golden = 0x9e3779b97f4a7c15ull, mix_1 = 0xbf58476d1ce4e5b9ull, mix_2 = 0x94d049bb133111ebull;

std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * mix_1;
  x = (x ^ (x >> 27)) * mix_2;
  return x ^ (x >> 31);
}

}  // namespace

std::uint64_t hash_block(const void* data, std::size_t bytes, std::uint64_t block_index) {
  // As XXH3 does (Collet 2019): the halves of each word, mixed with a key of its position, are multiplied, which no other
  // change undoes but by chance; the word itself is added next door, so that nothing is lost where a half is zero.
  constexpr std::size_t chains = 8;
  std::uint64_t chain[chains] = {};
  const auto* p = static_cast<const std::byte*>(data);
  const auto take = [&chain](std::uint64_t word, std::size_t k, std::uint64_t key) {
    const std::uint64_t mixed = word ^ key;
    chain[k] += (mixed & 0xffffffffu) * (mixed >> 32);
    chain[k ^ 1] += word;
  };
  std::uint64_t key = golden;
  std::size_t at = 0;
  for (; at + 8 * chains <= bytes; at += 8 * chains) {
    for (std::size_t k = 0; k < chains; ++k, key += golden) {
      std::uint64_t word;
      std::memcpy(&word, p + at + 8 * k, 8);
      take(word, k, key);
    }
  }
  for (std::size_t k = 0; at < bytes; at += 8, ++k, key += golden) {
    std::uint64_t word = 0;
    std::memcpy(&word, p + at, bytes - at < 8 ? bytes - at : 8);
    take(word, k, key);
  }
  std::uint64_t hash = mix(block_index + golden * bytes);
  for (const std::uint64_t state : chain) hash = mix(hash ^ state);
  return hash;
}

std::uint64_t finish_fingerprint(std::uint64_t blocks, DType dtype, std::span<const std::int64_t> shape,
                                 std::span<const std::uint32_t> order) {
  std::uint64_t hash = mix(blocks ^ golden * (static_cast<std::uint64_t>(dtype) + 1));
  for (const std::int64_t extent : shape) hash = mix(hash ^ (static_cast<std::uint64_t>(extent) + golden));
  for (const std::uint32_t dim : order) hash = mix(hash ^ ~std::uint64_t{dim});
  return hash;
}

}  // namespace tensometer
