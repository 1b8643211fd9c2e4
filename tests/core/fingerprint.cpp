// What a fingerprint promises: equal bits and shape, equal fingerprint; anything else, another one.
#include "fingerprint.hpp"

#include <algorithm>
#include <set>

#include "data.hpp"

namespace tensometer {
namespace {

std::uint64_t fingerprint_of(const TensorView& view, unsigned threads = 1) {
  return summarize_one(view, {.fingerprint = true, .threads = threads}).fingerprint.value();
}

TEST(fingerprint_changes_with_every_single_bit) {
  for (const std::size_t count : {1u, 2u, 7u, 8u, 9u, 63u, 64u, 65u, 127u, 300u}) {
    std::vector<std::byte> bytes = random_bytes(count, count);
    std::set<std::uint64_t> seen{hash_block(bytes.data(), count, 0)};
    for (std::size_t bit = 0; bit < 8 * count; ++bit) {
      bytes[bit / 8] ^= std::byte{1} << (bit % 8);
      CHECK(seen.insert(hash_block(bytes.data(), count, 0)).second, count, " bytes, bit ", bit);
      bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    }
  }
  std::vector<float> elements = ordinary_elements<float>(3 * block_size + 3, 80);
  const TensorView view = vector_view(elements.data(), DType::k_float32, elements.size());
  std::set<std::uint64_t> seen{fingerprint_of(view)};
  Random random(81);
  for (unsigned turn = 0; turn < 500; ++turn) {
    auto* byte = reinterpret_cast<unsigned char*>(elements.data()) + random.below(4 * elements.size());
    *byte ^= static_cast<unsigned char>(1u << random.below(8));  // each on top of those before
    CHECK(seen.insert(fingerprint_of(view)).second, "turn ", turn);
  }
}

TEST(fingerprint_tells_zeros_nans_and_lengths_apart) {
  std::set<std::uint64_t> seen;
  for (const float x :
       {0.0f, -0.0f, std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN()}) {
    CHECK(seen.insert(fingerprint_of(vector_view(&x, DType::k_float32, 1))).second, x);
  }
  const std::vector<std::byte> zeros(9 * block_size);
  std::set<std::uint64_t> lengths;
  for (std::size_t count = 0; count < zeros.size(); count += 19) {
    CHECK(lengths.insert(fingerprint_of(vector_view(zeros.data(), DType::k_uint8, count))).second, count, " zeros");
  }
}

TEST(fingerprint_depends_on_the_order_of_blocks) {
  const std::vector<float> elements = ordinary_elements<float>(5 * block_size, 82);
  std::vector<std::size_t> order{0, 1, 2, 3, 4};
  std::set<std::uint64_t> seen;
  do {
    std::vector<float> moved;
    for (const std::size_t block : order) {
      const auto first = elements.begin() + static_cast<std::ptrdiff_t>(block * block_size);
      moved.insert(moved.end(), first, first + block_size);
    }
    CHECK(seen.insert(fingerprint_of(vector_view(moved.data(), DType::k_float32, moved.size()))).second);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(fingerprint_depends_on_dtype_and_shape) {
  const std::vector<std::byte> bytes = random_bytes(48 * 16, 83);
  std::set<std::uint64_t> seen;
  for (const DType dtype : all_types()) {
    for (const std::vector<std::int64_t>& shape : std::vector<std::vector<std::int64_t>>{
             {48}, {6, 8}, {8, 6}, {48, 1}, {1, 48}, {2, 3, 8}, {0}, {0, 3}, {3, 0}, {}}) {
      CHECK(seen.insert(fingerprint_of(contiguous(bytes.data(), dtype, shape))).second, row(dtype).name, ", rank ",
            shape.size());
    }
  }
}

TEST(fingerprint_depends_on_the_order_in_memory) {
  // In memory a dense tensor and its transposes hold the same elements in the same order, but at other indices.
  const std::vector<float> elements = ordinary_elements<float>(5 * 5 * 5, 85);
  TensorView view = contiguous(elements.data(), DType::k_float32, {5, 5, 5});
  std::set<std::uint64_t> seen;
  std::sort(view.strides.begin(), view.strides.end());
  do {
    CHECK(seen.insert(fingerprint_of(view)).second, view.strides[0], " ", view.strides[1], " ", view.strides[2]);
  } while (std::next_permutation(view.strides.begin(), view.strides.end()));
}

TEST(fingerprint_is_of_the_elements_wherever_they_lie) {
  const std::vector<std::uint32_t> elements = wild_elements<std::uint32_t>(200 * 300, 84);
  TensorView cut = contiguous(elements.data(), DType::k_uint32, {200, 300});
  cut.shape[1] = 299;
  std::vector<std::uint32_t> copy;
  for (std::size_t i = 0; i < 200; ++i) copy.insert(copy.end(), &elements[i * 300], &elements[i * 300] + 299);
  const std::uint64_t expected = fingerprint_of(contiguous(copy.data(), DType::k_uint32, {200, 299}));
  for (const unsigned threads : {1u, 2u, 7u}) CHECK(fingerprint_of(cut, threads) == expected, threads, " threads");
  std::vector<std::uint32_t> swapped = copy;
  for (std::uint32_t& word : swapped) word = __builtin_bswap32(word);
  TensorView other_order = contiguous(swapped.data(), DType::k_uint32, {200, 299});
  other_order.swapped = true;
  CHECK(fingerprint_of(other_order) == expected, "bytes in the other order");
}

TEST(fingerprints_of_many_tensors_do_not_collide) {
  std::set<std::uint64_t> seen;
  const std::uint32_t count = check::quick() ? 20000 : 200000;
  for (std::uint32_t i = 0; i < count; ++i) CHECK(seen.insert(hash_block(&i, sizeof i, 0)).second, i);
  for (std::uint64_t block = 1; block < count; ++block) CHECK(seen.insert(hash_block("0000", 4, block)).second, block);
}

}  // namespace
}  // namespace tensometer
