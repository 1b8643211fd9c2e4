// Pieces in the memory of a fake device: their ends come back as they are, the rest reduced, whatever else is under way.
#include "cuda/engine.hpp"
#include "launched.hpp"
#include "stream.hpp"

namespace tensometer {
namespace {

using cuda::Engine;
using cuda::PieceView;

// The tensor in pieces of so many elements.
TensorSummary streamed(Engine& engine, const TensorView& whole, std::uint64_t size, const Options& options) {
  const std::size_t item_size = row(whole.dtype).item_size;
  Stream stream(whole.dtype, options);
  for (std::uint64_t at = 0; at < whole.count(); at += size) {
    const std::uint64_t count = std::min(size, whole.count() - at);
    const TensorView view = vector_view(whole.data + at * item_size, whole.dtype, count);
    const PieceView piece{view, stream.cut(view)};
    const Ticket ticket = engine.submit(std::span(&piece, 1), options, fake::stream(at % 3 + 1));
    stream.update(engine.take(ticket).pieces[0], 0);
  }
  return stream.summary();
}

TEST(launched_pieces_make_the_whole) {
  for (const HistogramMode mode : {HistogramMode::none, HistogramMode::full, HistogramMode::sampled}) {
    fake::reset("seed=4 late=2");
    Engine engine(0, image());
    const auto tensors = fake::some_tensors(50);
    const Options options = options_of(mode, mode == HistogramMode::full ? 6 : 3, true);
    const std::vector<TensorView> views = tensors->on_device();
    const std::vector<TensorSummary> expected = tensors->expected(options);
    for (std::size_t i = 0; i < views.size(); ++i) {
      if (!ElementReader(views[i]).dense()) continue;
      TensorSummary flat = expected[i];
      if (flat.shape.size() != 1) flat.fingerprint.reset();
      flat.shape.assign(1, static_cast<std::int64_t>(views[i].count()));
      for (const std::uint64_t size : {999u, 4096u, 5000u, 100000u}) {
        if (check::quick() && size != 5000) continue;
        TensorSummary found = streamed(engine, views[i], size, options);
        if (!flat.fingerprint) found.fingerprint.reset();
        CHECK(found == flat, "tensor ", i, " in pieces of ", size);
      }
    }
  }
}

// Memory for bins, ends and tables is shared with other submits.
TEST(launched_pieces_beside_tensors_are_right) {
  fake::reset("seed=5 late=4");
  Engine engine(0, image());
  const auto tensors = fake::some_tensors(51);
  const std::vector<TensorView> views = tensors->on_device();
  const std::vector<TensorSummary> expected = tensors->expected(everything);
  fake::Twins twins;
  twins.add(DType::k_float16, bytes_of(wild_elements<float16>(3 * 4096 + 5, 52)), {3 * 4096 + 5});
  const TensorView whole = twins.tensors[0]->device;
  for (unsigned turn = 0; turn < 6; ++turn) {
    const Ticket before = engine.submit(views, everything, stream(1));
    CHECK(streamed(engine, whole, 6000 + turn, everything) == twins.expected(everything)[0], "turn ", turn);
    check_equal(engine.take(before), expected, check::text("turn ", turn));
  }
}

TEST(launched_pieces_bring_no_more_than_their_ends) {
  fake::reset();
  Launcher launcher(0, image(), roomy);
  fake::Twins twins;
  twins.add(DType::k_float32, bytes_of(ordinary_elements<float>(64 * 4096, 53)), {64 * 4096});
  const TensorView whole = twins.tensors[0]->device;
  const PieceView amid{whole, {96, 1, 63, 4000}}, alone{whole, {0, 0, 64, 0}};
  CHECK(launcher.submit_pieces(std::span(&amid, 1), everything, stream(1)));
  CHECK(count("cuMemcpyDtoHAsync_v2") == 3 && count("cuLaunchKernel") == 2);
  CHECK(launcher.submit_pieces(std::span(&alone, 1), everything, stream(1)));
  CHECK(count("cuMemcpyDtoHAsync_v2") == 4 && count("cuLaunchKernel") == 4);
  const std::vector<Finished> done = launcher.wait();
  CHECK(done.size() == 2 && done[0].pieces.size() == 1 && done[0].tensors.empty() && done[0].pairs.empty());
  const ReducedPiece &first = done[0].pieces[0], &second = done[1].pieces[0];
  CHECK(first.runs.size() == 63 && first.head.size() == 96 * 4 && first.tail.size() == 4000 * 4);
  CHECK(std::memcmp(first.head.data(), twins.tensors[0]->host.data, 96 * 4) == 0);
  CHECK(std::memcmp(first.tail.data(), twins.tensors[0]->host.data + (96 + 63 * 4096) * 4, 4000 * 4) == 0);
  CHECK(second.runs.size() == 1 && second.head.empty() && second.tail.empty());
  CHECK(second.runs[0] == twins.expected(everything)[0].summary);
}

TEST(launched_pieces_must_be_packed_and_of_the_device) {
  fake::reset();
  Launcher launcher(0, image(), roomy);
  const std::vector<float> elements(16);
  const TensorView here = contiguous(elements.data(), DType::k_float32, {16});
  const PieceView piece{here, {0, 0, 0, 16}};
  check::throws<std::invalid_argument>([&] { launcher.submit_pieces(std::span(&piece, 1), everything, nullptr); },
                                       "x: tensor 0 is not in the memory of a CUDA device");
  const auto twins = fake::some_tensors(3);
  const TensorView rows = twins->tensors.back()->device;
  const PieceView apart{rows, {0, 0, 0, 900}};
  check::throws<std::invalid_argument>([&] { launcher.submit_pieces(std::span(&apart, 1), everything, nullptr); },
                                       "x: tensor 0 has elements that lie apart");
}

// A tensor in pieces, and another submit beside them: how many calls of the driver that takes; nothing if one went wrong.
std::optional<std::uint64_t> survives(const std::string& what) {
  fake::Twins twins;
  twins.add(DType::k_float32, bytes_of(ordinary_elements<float>(2 * 4096 + 9, 54)), {2 * 4096 + 9});
  const Options options = options_of(HistogramMode::full, 3, true);
  const TensorView whole = twins.tensors[0]->device;
  const TensorSummary expected = twins.expected(options)[0];
  Engine engine(0, image());
  try {
    const Ticket beside = engine.submit(std::span(&whole, 1), options, stream(2));
    CHECK(streamed(engine, whole, 5000, options) == expected, what);
    CHECK(engine.take(beside).tensors[0].summary == expected, what);
    return count("calls");
  } catch (const CudaError& error) {
    const std::string text = error.what();
    CHECK(text.starts_with("cuda: cu") && text.find(" failed: ") != std::string::npos, what, ": ", text);
    return std::nullopt;
  }
}

TEST(launched_pieces_errors_of_every_call_are_clear) {
  fake::reset("late=40");
  const std::optional<std::uint64_t> calls = survives("no error");
  CHECK(calls && *calls > 40, *calls, " calls");
  unsigned tried = 0, told = 0;
  for (std::uint64_t n = 1; n <= *calls; ++n) {
    if (check::quick() && n % 7 != 0) continue;
    fake::reset(check::text("late=40 error=700 fail_at=", n));
    told += survives(check::text("call ", n)) ? 0 : 1, tried += 1;
  }
  // Results are right in any case: what fails behind the last of them the next call would tell.
  CHECK(told * 10 > tried * 9, told, " of ", tried, " errors were told");
}

}  // namespace
}  // namespace tensometer
