// Readers of any view against naive indexing.
#include "layout.hpp"

#include <algorithm>
#include <numeric>

#include "data.hpp"

namespace tensometer {
namespace {

// Byte offsets of all elements in logical C order.
std::vector<std::int64_t> offsets_of(const TensorView& view) {
  std::vector<std::int64_t> offsets{0};
  for (std::size_t dim = 0; dim < view.shape.size(); ++dim) {
    std::vector<std::int64_t> finer;
    for (const std::int64_t offset : offsets) {
      for (std::int64_t i = 0; i < view.shape[dim]; ++i) finer.push_back(offset + i * view.strides[dim]);
    }
    offsets = std::move(finer);
  }
  return offsets;
}

// A view and exactly the memory that its elements span.
struct Case {
  TensorView view;
  std::unique_ptr<ExactMemory> memory;
  std::vector<std::int64_t> offsets;
};

Case with_memory(TensorView view, std::uint64_t seed) {
  Case made{std::move(view), nullptr, {}};
  made.offsets = offsets_of(made.view);
  std::int64_t low = 0, high = 0;
  for (const std::int64_t offset : made.offsets) {
    low = std::min(low, offset);
    high = std::max(high, offset + row(made.view.dtype).item_size);
  }
  const std::vector<std::byte> bytes = random_bytes(static_cast<std::size_t>(high - low), seed);
  made.memory = std::make_unique<ExactMemory>(bytes.data(), bytes.size(), seed % 64);
  made.view.data = made.memory->data() - low;
  return made;
}

TensorView random_view(Random& random) {
  TensorView view;
  view.dtype = all_types()[random.below(dtype_count)];
  view.swapped = random.below(3) == 0;
  const std::size_t rank = random.below(6);
  const bool empty = random.below(12) == 0;
  for (std::size_t i = 0; i < rank; ++i) view.shape.push_back(random.between(empty ? 0 : 1, 6));
  std::vector<std::size_t> order(rank);
  std::iota(order.begin(), order.end(), 0u);
  for (std::size_t i = rank; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  view.strides.resize(rank);
  std::int64_t stride = row(view.dtype).item_size;
  const bool dense = random.below(3) == 0;
  for (const std::size_t dim : order) {
    view.strides[dim] = stride;
    stride *= view.shape[dim];
    if (dense) continue;
    switch (random.below(6)) {
    case 0:
      view.strides[dim] = 0;
      break;
    case 1:
      view.strides[dim] *= -1;
      break;
    case 2:
      stride += random.between(0, 9);
      break;
    case 3:
      view.strides[dim] = random.between(-50, 50);
      break;
    default:
      break;
    }
  }
  return view;
}

// The elements' bytes as a reader owes them: dense ones by address, others in logical order; words in machine order.
std::vector<std::byte> expected_bytes(const Case& made, bool memory_order) {
  const std::int64_t item = row(made.view.dtype).item_size;
  std::vector<std::int64_t> offsets = made.offsets, sorted = offsets;
  std::sort(sorted.begin(), sorted.end());
  bool dense = memory_order;
  for (std::size_t i = 0; i < sorted.size(); ++i) dense = dense && sorted[i] == static_cast<std::int64_t>(i) * item;
  if (dense) offsets = sorted;
  const std::int64_t word = row(made.view.dtype).lanes == Lanes::magnitude ? item / 2 : item;
  std::vector<std::byte> bytes;
  for (const std::int64_t offset : offsets) {
    for (std::int64_t k = 0; k < item; ++k) {
      const std::int64_t at = made.view.swapped ? k / word * word + word - 1 - k % word : k;
      bytes.push_back(made.view.data[offset + at]);
    }
  }
  return bytes;
}

TEST(readers_equal_naive_indexing) {
  Random random(60);
  for (unsigned turn = 0; turn < (check::quick() ? 300u : 5000u); ++turn) {
    const Case made = with_memory(random_view(random), turn);
    const std::size_t item = row(made.view.dtype).item_size;
    CHECK(made.view.count() == made.offsets.size(), "turn ", turn);
    for (const bool memory_order : {true, false}) {
      const std::vector<std::byte> expected = expected_bytes(made, memory_order);
      const ElementReader reader(made.view, memory_order);
      CHECK(reader.count() == made.offsets.size(), "turn ", turn);
      for (unsigned cut = 0; cut < 5; ++cut) {
        const std::size_t first = cut == 0 ? 0 : random.below(reader.count() + 1);
        const std::size_t count = cut == 0 ? reader.count() : random.below(reader.count() - first + 1);
        if (count == 0) continue;
        const ExactMemory buffer(count * item);
        const void* found = reader.read(first, static_cast<std::uint32_t>(count), buffer.data());
        CHECK(std::memcmp(found, expected.data() + first * item, count * item) == 0, "turn ", turn, ", ",
              row(made.view.dtype).name, ", elements from ", first, ", ", count);
      }
    }
  }
}

TEST(views_of_any_layout_summarize_as_their_elements_in_order) {
  Random random(61);
  const Options options{HistogramMode::full, 3, false, 2};
  for (unsigned turn = 0; turn < (check::quick() ? 200u : 2000u); ++turn) {
    const Case made = with_memory(random_view(random), turn);
    const std::vector<std::byte> bytes = expected_bytes(made, true);
    const SparseView strided{made.view, made.view.shape, 0};
    const SparseView plain{vector_view(bytes.data(), made.view.dtype, made.offsets.size()), made.view.shape, 0};
    CHECK(summarize({&strided, 1}, options) == summarize({&plain, 1}, options), "turn ", turn, ", ",
          row(made.view.dtype).name);
  }
}

TEST(large_strided_views_summarize_as_their_copies) {
  // Several blocks and groups; blocks begin anywhere within a row.
  const std::int64_t rows = 700, columns = 601;
  const std::vector<float> elements = ordinary_elements<float>(static_cast<std::size_t>(rows * columns), 62);
  TensorView view = contiguous(elements.data(), DType::k_float32, {rows, columns});
  view.shape[1] -= 3;  // a cut-out: not dense
  std::vector<float> copy;
  for (std::int64_t i = 0; i < rows; ++i) {
    const auto first = elements.begin() + i * columns;
    copy.insert(copy.end(), first, first + columns - 3);
  }
  const Options options{HistogramMode::full, 6, true, 2};
  CHECK(summarize_one(view, options) == summarize_one(contiguous(copy.data(), DType::k_float32, view.shape), options));
  std::swap(view.shape[0], view.shape[1]);  // and its transpose, which is read column by column
  std::swap(view.strides[0], view.strides[1]);
  std::vector<float> transposed;
  for (std::int64_t j = 0; j < columns - 3; ++j) {
    for (std::int64_t i = 0; i < rows; ++i) transposed.push_back(elements[static_cast<std::size_t>(i * columns + j)]);
  }
  CHECK(summarize_one(view, options) ==
        summarize_one(contiguous(transposed.data(), DType::k_float32, view.shape), options));
}

TEST(units_of_any_layout_equal_the_slices_alone) {
  Random random(63);
  const Options options{HistogramMode::full, 3, true, 2};
  for (unsigned turn = 0; turn < (check::quick() ? 200u : 2000u); ++turn) {
    const Case made = with_memory(random_view(random), turn);
    if (made.view.shape.empty()) continue;
    const std::size_t dim = random.below(made.view.shape.size());
    const auto units = summarize_units(made.view, dim, options);
    CHECK(units.size() == static_cast<std::size_t>(made.view.shape[dim]), "turn ", turn);
    for (std::size_t i = 0; i < units.size(); ++i) {
      const TensorSummary alone = summarize_one(select(made.view, dim, static_cast<std::int64_t>(i)), options);
      const std::string wrong = difference(units[i].summary, alone.summary);
      CHECK(units[i] == alone, "turn ", turn, ", ", row(made.view.dtype).name, ", unit ", i, " along ", dim, ": ",
            wrong);
    }
  }
}

TEST(units_along_neighbouring_columns_equal_the_slices_alone) {
  // More than a block of rows, and a number of columns that no cache line divides.
  const std::vector<bfloat16> elements = ordinary_elements<bfloat16>(5000 * 67, 64);
  const TensorView view = contiguous(elements.data(), DType::k_bfloat16, {5000, 67});
  const Options options{HistogramMode::full, 6, true, 3};
  const auto units = summarize_units(view, 1, options);
  for (std::size_t i = 0; i < units.size(); ++i) {
    CHECK(units[i] == summarize_one(select(view, 1, static_cast<std::int64_t>(i)), options), "column ", i);
  }
}

}  // namespace
}  // namespace tensometer
