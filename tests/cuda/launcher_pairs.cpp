// Pairs of tensors in the memory of a fake device: right comparisons, whatever else is under way and whatever fails.
#include <map>
#include <memory>

#include "compared.hpp"
#include "launched.hpp"

namespace tensometer {
namespace {

const Options counted = options_of(HistogramMode::full, 3, false);

// Several pairs, some of them updates, on the device and as the CPU would follow them.
class TwinPairs {
 public:
  // `most`: of some_tensors.
  explicit TwinPairs(std::uint64_t seed, std::size_t most = 7)
      : old_(fake::some_tensors(seed)), new_(fake::some_tensors(seed + 8)) {
    for (std::size_t i = 0; i < std::min(most, old_->tensors.size()); ++i) {
      const TensorView &a = old_->tensors[i]->host, &b = new_->tensors[i]->host;
      const std::size_t count = a.count();
      host_.push_back({a, b, {}});
      device_.push_back({old_->tensors[i]->device, new_->tensors[i]->device, {}});
      if (i % 2 == 1) continue;
      const DType dtype = difference_dtype(a.dtype);
      last_.add(dtype, last_lanes(a.dtype, count, seed + i), {static_cast<std::int64_t>(count)});
      host_.back().last = last_.tensors.back()->host;
      device_.back().last = last_.tensors.back()->device;
    }
  }

  const std::vector<PairView>& on_device() const { return device_; }
  // Of the next submit: the last differences become those of this one.
  std::vector<Compared> expected(const Options& options) {
    std::vector<Compared> all;
    for (const PairView& view : host_) all.push_back(expected_of(view, options));
    return all;
  }

 private:
  std::unique_ptr<Twins> old_, new_;
  Twins last_;
  std::vector<PairView> host_, device_;
};

void check_pairs(const Finished& finished, const std::vector<Compared>& expected, const std::string& what) {
  CHECK(finished.tensors.empty() && finished.pairs.size() == expected.size(), what);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const std::string wrong = how_it_differs(finished.pairs[i], expected[i]);
    CHECK(wrong.empty(), what, ", pair ", i, ": ", wrong);
  }
}

TEST(launched_pairs_equal_the_cpu) {
  for (const HistogramMode mode : {HistogramMode::none, HistogramMode::full, HistogramMode::sampled}) {
    for (const unsigned resolution : {3u, 5u}) {
      fake::reset(check::text("seed=", resolution));
      TwinPairs pairs(resolution);
      const Options options = options_of(mode, resolution, false);
      Launcher launcher(0, image(), roomy);
      for (unsigned turn = 0; turn < 3; ++turn) {
        CHECK(launcher.submit_pairs(pairs.on_device(), options, stream(1)));
        check_pairs(only(launcher.poll()), pairs.expected(options), check::text("turn ", turn));
      }
      CHECK(count("cuLaunchKernel") == 6 && count("cuMemcpyHtoDAsync_v2") == 1);
    }
  }
}

TEST(launched_pairs_may_be_empty_or_none) {
  fake::reset();
  Launcher launcher(0, image());
  CHECK(launcher.submit_pairs({}, counted, stream(1)));
  const TensorView empty = contiguous(nullptr, DType::k_float32, {3, 0});
  const PairView pair{empty, empty, empty};
  CHECK(launcher.submit_pairs(std::span(&pair, 1), counted, stream(1)));
  const std::vector<Finished> done = launcher.wait();
  CHECK(done.size() == 2);
  check_pairs(done[0], {}, "none");
  check_pairs(done[1], {expected_of(pair, counted)}, "empty");
}

// Tensors and pairs share streams and memory, not tables: neither has to be uploaded again for the other.
TEST(launched_pairs_beside_tensors_are_right) {
  for (std::uint64_t seed = 1; seed <= (check::quick() ? 2u : 8u); ++seed) {
    fake::reset(check::text("seed=", seed, " late=", seed % 5 + 3));
    TwinPairs pairs(seed);
    const auto tensors = fake::some_tensors(seed + 1);
    const std::vector<TensorSummary> summaries = tensors->expected(everything);
    Launcher launcher(0, image(), {3, 10000});
    std::map<Ticket, std::vector<Compared>> compared;
    const auto take = [&](const std::vector<Finished>& done) {
      for (const Finished& finished : done) {
        const auto found = compared.find(finished.ticket);
        if (found == compared.end()) {
          CHECK(finished.pairs.empty());
          check_equal(finished, summaries, check::text("seed ", seed));
        } else {
          check_pairs(finished, found->second, check::text("seed ", seed));
        }
      }
    };
    for (unsigned turn = 0; turn < 16; ++turn) {
      if (turn % 2 == 0) {
        launcher.submit(tensors->on_device(), everything, stream(turn % 3));
      } else if (const auto ticket = launcher.submit_pairs(pairs.on_device(), counted, stream(turn % 3))) {
        compared[*ticket] = pairs.expected(counted);
      }
      take(launcher.poll());
    }
    take(launcher.wait());
    CHECK(count("cuMemcpyHtoDAsync_v2") == 2, count("cuMemcpyHtoDAsync_v2"), " uploads");
  }
}

TEST(launched_pairs_without_room_lose_their_histogram_once) {
  fake::reset();
  TwinPairs pairs(7);
  Launcher launcher(0, image(), {2, 1});
  CHECK(launcher.submit_pairs(pairs.on_device(), counted, nullptr));
  const Finished poor = only(launcher.poll());
  const std::vector<Compared> expected = pairs.expected(counted);
  unsigned lost = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Comparison &found = poor.pairs[i].comparison, &wanted = expected[i].comparison;
    lost += poor.pairs[i].bins_lost;
    CHECK(found.totals == wanted.totals && found.difference.summary == wanted.difference.summary);
    CHECK(found.difference.histogram.has_value() == !poor.pairs[i].bins_lost);
  }
  CHECK(lost != 0);
  CHECK(launcher.submit_pairs(pairs.on_device(), counted, nullptr));
  check_pairs(only(launcher.poll()), pairs.expected(counted), "with room");
}

TEST(launched_pairs_must_be_of_the_device) {
  fake::reset();
  const std::vector<float> elements(16);
  const TensorView here = contiguous(elements.data(), DType::k_float32, {16});
  const auto twins = fake::some_tensors(3);
  TensorView there = twins->tensors[0]->device;
  there.shape = {16};
  Launcher launcher(0, image(), roomy);
  const auto refused = [&](const PairView& pair, const char* words) {
    check::throws<std::invalid_argument>([&] { launcher.submit_pairs(std::span(&pair, 1), counted, nullptr); }, words);
  };
  refused({here, there, {}}, "old: tensor 0 is not in the memory of a CUDA device");
  refused({there, here, {}}, "new: tensor 0 is not in the memory of a CUDA device");
  refused({there, there, here}, "last: tensor 0 is not in the memory of a CUDA device");
  fake::reset("capturing=7");
  const PairView pair{there, there, {}};
  check::throws<std::runtime_error>([&] { launcher.submit_pairs(std::span(&pair, 1), counted, stream(7)); },
                                    "being captured");
}

// Pairs, tensors and pairs again; false if the launcher was broken before the end.
bool survives(const std::string& what) {
  TwinPairs pairs(20, 1);
  Twins tensors;
  tensors.add(DType::k_float32, bytes_of(ordinary_elements<float>(500, 21)), {500});
  const std::vector<TensorSummary> summaries = tensors.expected(everything);
  std::vector<std::vector<Compared>> expected;
  for (unsigned turn = 0; turn < 3; ++turn) expected.push_back(pairs.expected(counted));
  Launcher launcher(0, image(), {4, 10000});
  const auto check_all = [&](const std::vector<Finished>& done) {
    for (const Finished& finished : done) {
      if (finished.ticket == 1) {
        check_equal(finished, summaries, what);
      } else {
        check_pairs(finished, expected[finished.ticket == 0 ? 0 : finished.ticket - 1], what);
      }
    }
  };
  try {
    launcher.submit_pairs(pairs.on_device(), counted, stream(1));
    launcher.submit(tensors.on_device(), everything, stream(2));
    launcher.submit_pairs(pairs.on_device(), counted, stream(2));
    check_all(launcher.poll());
    launcher.submit_pairs(pairs.on_device(), counted, stream(1));
    check_all(launcher.wait());
    launcher.close();
    return true;
  } catch (const CudaError& error) {
    const std::string text = error.what();
    CHECK(text.starts_with("cuda: cu") && text.find(" failed: ") != std::string::npos, what, ": ", text);
    const std::uint64_t calls = count("calls");
    check::throws<CudaError>([&] { launcher.submit_pairs(pairs.on_device(), counted, stream(1)); }, text);
    CHECK(count("calls") == calls, what, ": the driver was called again");
    return false;
  }
}

TEST(launched_pairs_errors_of_every_call_are_clear) {
  fake::reset("late=40");
  CHECK(survives("no error"));
  const std::uint64_t calls = count("calls");
  CHECK(calls > 60, calls, " calls");
  for (std::uint64_t n = 1; n <= calls; ++n) {
    if (check::quick() && n % 7 != 0) continue;
    fake::reset(check::text("late=40 error=700 fail_at=", n));
    CHECK(!survives(check::text("call ", n)), "the error of call ", n, " was lost");
  }
}

}  // namespace
}  // namespace tensometer
