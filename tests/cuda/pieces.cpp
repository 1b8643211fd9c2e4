// Tensors in pieces, whose whole blocks the emulated kernels reduce, against the whole on the CPU with ==.
#include "../core/data.hpp"
#include "emulated.hpp"
#include "stream.hpp"

namespace tensometer {
namespace {

using cuda::Emulated;
using emulation::Schedule;

Options counted(HistogramMode mode, unsigned resolution) {
  Options options;
  options.histogram = mode, options.resolution = resolution;
  options.fingerprint = true;
  options.threads = 1;
  return options;
}

// In pieces of these sizes and what is left; every second small one by the CPU.
TensorSummary streamed(const TensorView& whole, const std::vector<std::uint64_t>& sizes, const Options& options,
                       const Emulated& how) {
  const std::size_t item_size = row(whole.dtype).item_size;
  Stream stream(whole.dtype, options);
  std::uint64_t at = 0;
  for (std::size_t k = 0; k <= sizes.size(); ++k) {
    const std::uint64_t left = whole.count() - at, size = k < sizes.size() ? std::min(left, sizes[k]) : left;
    const ExactMemory memory(whole.data + at * item_size, size * item_size, 16 + k % 2 * item_size);
    const TensorView view = vector_view(memory.data(), whole.dtype, size);
    if (size < block_size && k % 2 == 1) {
      stream.update({view, view.shape, 0});
    } else {
      stream.update(cuda::emulate_pieces({{view, stream.cut(view)}}, options, how)[0], 0);
    }
    at += size;
    CHECK(stream.count() == at, stream.count(), " elements counted of ", at);
    if (k % 3 == 2) stream = Stream::restore(stream.save());
  }
  return stream.summary();
}

const std::vector<std::vector<std::uint64_t>> cuts = {
    {}, {1}, {4095, 2}, {4096, 4096}, {5, 4091, 8192}, {100, 100, 100, 12288}, {0, 12289, 0, 4095}, {8191, 1, 4097}};

TEST(pieces_of_every_type_make_the_whole) {
  for (const DType dtype : all_types()) {
    const std::size_t count = 5 * block_size + 77;
    std::vector<std::byte> bytes = random_bytes(count * row(dtype).item_size, 60);
    if (dtype == DType::k_bool) {
      for (std::byte& byte : bytes) byte &= std::byte{1};
    }
    const TensorView whole = vector_view(bytes.data(), dtype, count);
    for (const unsigned resolution : {3u, 6u}) {
      const Options options = counted(HistogramMode::full, resolution);
      const TensorSummary expected = summarize_one(whole, options);
      for (const std::vector<std::uint64_t>& sizes : cuts) {
        if (check::quick() && sizes.size() != 3) continue;
        CHECK(streamed(whole, sizes, options, {Schedule::random, 5, 8}) == expected, row(dtype).name, ", resolution ",
              resolution, ", ", sizes.size(), " cuts");
      }
    }
  }
}

// What lies before a piece tells where groups begin, which blocks are sampled, and what a block's hash is.
TEST(pieces_that_begin_amid_groups_make_the_whole) {
  const std::size_t count = 203 * block_size + 9;
  const std::vector<std::byte> halves = bytes_of(ordinary_elements<bfloat16>(count, 61)),
                               bytes = random_bytes(count, 62),
                               integers = bytes_of(wild_elements<std::int64_t>(70 * block_size, 63));
  const std::vector<TensorView> wholes = {vector_view(halves.data(), DType::k_bfloat16, count),
                                          vector_view(bytes.data(), DType::k_float8_e5m2, count),
                                          vector_view(integers.data(), DType::k_int64, 70 * block_size)};
  for (const TensorView& whole : wholes) {
    for (const HistogramMode mode : {HistogramMode::none, HistogramMode::full, HistogramMode::sampled}) {
      if (check::quick() && mode != HistogramMode::sampled) continue;
      const Options options = counted(mode, mode == HistogramMode::full ? 6 : 3);
      const TensorSummary expected = summarize_one(whole, options);
      for (const std::vector<std::uint64_t>& sizes : std::vector<std::vector<std::uint64_t>>{
               {block_size, 64 * block_size}, {3 * block_size + 1, 130 * block_size}, {64 * block_size, 7}}) {
        for (const std::uint32_t item_blocks : {8u, 64u}) {
          CHECK(streamed(whole, sizes, options, {Schedule::random, 6, item_blocks}) == expected, row(whole.dtype).name,
                ", mode ", static_cast<int>(mode), ", first piece of ", sizes[0], ", items of ", item_blocks);
        }
      }
    }
  }
}

TEST(pieces_of_several_tensors_at_once) {
  const std::vector<std::byte> floats = bytes_of(wild_elements<float>(9 * block_size, 64)),
                               bytes = random_bytes(3 * block_size + 1, 65);
  const Options options = counted(HistogramMode::full, 3);
  const TensorView a = vector_view(floats.data(), DType::k_float32, 9 * block_size),
                   b = vector_view(bytes.data(), DType::k_int8, 3 * block_size + 1),
                   small = vector_view(bytes.data(), DType::k_uint8, 100);
  Stream first(a.dtype, options), second(b.dtype, options), third(small.dtype, options);
  const std::vector<ReducedPiece> pieces =
      cuda::emulate_pieces({{a, first.cut(a)}, {small, third.cut(small)}, {b, second.cut(b)}}, options, {});
  first.update(pieces[0], 0), third.update(pieces[1], 0), second.update(pieces[2], 5);
  CHECK(first.summary() == summarize_one(a, options));
  CHECK(third.summary() == summarize_one(small, options));
  CHECK(second.summary().summary.count == 3 * block_size + 6);
  CHECK(second.summary().summary.zeros == summarize_one(b, options).summary.zeros + 5);
}

TEST(pieces_are_cut_into_few_runs) {
  const auto run_blocks = [](std::uint64_t first, std::uint64_t blocks) {
    std::vector<std::uint64_t> sizes;
    std::uint64_t at = first;
    for (const Run& run : runs_of({0, first, blocks, 0})) {
      CHECK(run.first_block == at && at % run.blocks() == 0);
      sizes.push_back(run.blocks());
      at += run.blocks();
    }
    CHECK(at == first + blocks);
    return sizes;
  };
  CHECK(run_blocks(7, 0).empty());
  CHECK(run_blocks(0, 64) == std::vector<std::uint64_t>({64}));
  CHECK(run_blocks(62, 67) == std::vector<std::uint64_t>({1, 1, 64, 1}));
  CHECK(run_blocks(4096 - 64, 64 + 4096 + 2) == std::vector<std::uint64_t>({64, 4096, 1, 1}));
  CHECK(run_blocks(1, (std::uint64_t{1} << 28) - 1).size() == 63 * 4 + 15);
}

}  // namespace
}  // namespace tensometer
