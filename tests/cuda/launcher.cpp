// The launcher over a fake driver: right results, whatever the order in which the device works.
#include "cuda/launcher.hpp"

#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "launched.hpp"

namespace tensometer {
namespace {

TEST(launched_summaries_equal_the_cpu) {
  for (const HistogramMode mode : {HistogramMode::none, HistogramMode::full, HistogramMode::sampled}) {
    for (const unsigned resolution : {3u, 6u}) {
      fake::reset(check::text("seed=", resolution));
      const auto tensors = fake::some_tensors(resolution);
      const Options options = options_of(mode, resolution, mode == HistogramMode::full);
      Launcher launcher(0, image(), roomy);
      const std::optional<Ticket> ticket = launcher.submit(tensors->on_device(), options, stream(1));
      CHECK(ticket && *ticket == 0);
      check_equal(only(launcher.poll()), tensors->expected(options), check::text("resolution ", resolution));
      CHECK(launcher.poll().empty());
    }
  }
}

TEST(launched_tensors_may_be_empty_or_none) {
  fake::reset();
  Twins empty;
  empty.add(DType::k_float32, {}, {0});
  empty.add(DType::k_uint8, {}, {3, 0});
  Launcher launcher(0, image());
  CHECK(launcher.submit({}, everything, nullptr));
  CHECK(count("cuLaunchKernel") == 0);
  CHECK(launcher.submit(empty.on_device(), everything, nullptr));
  const std::vector<Finished> done = launcher.wait();
  CHECK(done.size() == 2);
  check_equal(done[0], {}, "none");
  check_equal(done[1], empty.expected(everything), "empty");
}

TEST(launched_tables_are_uploaded_once) {
  fake::reset();
  // Of the same shapes, in other memory.
  const auto tensors = fake::some_tensors(1), others = fake::some_tensors(9);
  Launcher launcher(0, image(), roomy);
  const auto submit = [&](const Twins& twins, const Options& options) {
    CHECK(launcher.submit(twins.on_device(), options, stream(1)));
    check_equal(only(launcher.poll()), twins.expected(options), "cached");
  };
  for (unsigned turn = 0; turn < 6; ++turn) submit(*tensors, everything);
  CHECK(count("cuMemcpyHtoDAsync_v2") == 1, count("cuMemcpyHtoDAsync_v2"), " copies");
  CHECK(count("cuLaunchKernel") == 12, count("cuLaunchKernel"), " launches");
  CHECK(count("cuMemcpyDtoHAsync_v2") == 6);
  submit(*others, everything);
  submit(*others, options_of(HistogramMode::full, 2, true));
  CHECK(count("cuMemcpyHtoDAsync_v2") == 3);
  // The same elements in another shape, another layout, of another type: each is another tensor.
  Twins one;
  one.add(DType::k_float32, bytes_of(ordinary_elements<float>(120, 7)), {10, 12});
  for (const auto& [dtype, shape, strides] :
       {std::tuple(DType::k_float32, std::vector<std::int64_t>{10, 12}, std::vector<std::int64_t>{48, 4}),
        std::tuple(DType::k_float32, std::vector<std::int64_t>{12, 10}, std::vector<std::int64_t>{40, 4}),
        std::tuple(DType::k_float32, std::vector<std::int64_t>{12, 10}, std::vector<std::int64_t>{4, 48}),
        std::tuple(DType::k_int32, std::vector<std::int64_t>{12, 10}, std::vector<std::int64_t>{4, 48}),
        std::tuple(DType::k_int32, std::vector<std::int64_t>{12, 5}, std::vector<std::int64_t>{4, 48})}) {
    for (TensorView* view : {&one.tensors[0]->host, &one.tensors[0]->device}) {
      view->dtype = dtype, view->shape = shape, view->strides = strides;
    }
    submit(one, everything);
  }
  CHECK(count("cuMemcpyHtoDAsync_v2") == 8 && count("cuLaunchKernel") == 26);
  submit(*others, options_of(HistogramMode::full, 2, true));
  const std::uint64_t allocations = count("cuMemAlloc_v2") + count("cuMemHostAlloc");
  for (unsigned turn = 0; turn < 4; ++turn) submit(*others, options_of(HistogramMode::full, 2, true));
  CHECK(count("cuMemcpyHtoDAsync_v2") == 8 && count("cuLaunchKernel") == 36, "eight tables are kept");
  CHECK(count("cuMemAlloc_v2") + count("cuMemHostAlloc") <= allocations + 12, "slots that did not serve before");
  submit(*others, options_of(HistogramMode::full, 1, true));  // in place of the first, which was not used for longest
  submit(*others, options_of(HistogramMode::full, 2, true));
  CHECK(count("cuMemcpyHtoDAsync_v2") == 9);
  submit(*tensors, everything);
  CHECK(count("cuMemcpyHtoDAsync_v2") == 10);
  for (const char* waits : {"cuEventSynchronize", "cuMemFree_v2", "cuMemFreeHost", "cuModuleUnload"}) {
    CHECK(count(waits) == 0, waits, " waits for the device");
  }
  CHECK(count("contexts") == 0 && count("capture mode") == 0);
}

TEST(launched_rings_keep_order_and_drop_when_full) {
  fake::reset("late=0");
  const auto tensors = fake::some_tensors(3), others = fake::some_tensors(4);
  Launcher launcher(0, image(), roomy);
  for (unsigned round = 0; round < 3; ++round) {
    for (unsigned i = 0; i < 4; ++i) {
      const auto ticket =
          launcher.submit((i % 2 ? others : tensors)->on_device(), everything, stream(1 + (i + round) % 3));
      CHECK(ticket && *ticket == 4 * round + i);
    }
    CHECK(!launcher.submit(tensors->on_device(), everything, stream(9)));
    CHECK(launcher.drops() == round + 1 && launcher.poll().empty());
    const std::vector<Finished> done = launcher.wait();
    CHECK(done.size() == 4);
    for (unsigned i = 0; i < 4; ++i) {
      CHECK(done[i].ticket == 4 * round + i);
      check_equal(done[i], (i % 2 ? others : tensors)->expected(everything), check::text("ticket ", done[i].ticket));
    }
  }
}

TEST(launched_in_any_order_results_are_right) {
  std::vector<std::unique_ptr<Twins>> sets;
  std::vector<std::vector<TensorSummary>> expected;
  for (std::uint64_t i = 0; i < 5; ++i) {
    sets.push_back(fake::some_tensors(10 + i));
    expected.push_back(sets.back()->expected(everything));
  }
  for (std::uint64_t seed = 1; seed <= (check::quick() ? 2u : 12u); ++seed) {
    fake::reset(check::text("seed=", seed, " late=", seed % 5 + 3));
    Random random(seed);
    Launcher launcher(0, image(), {static_cast<unsigned>(1 + random.below(6)), 10000});
    std::map<Ticket, std::size_t> asked;
    Ticket next = 0;
    const auto take = [&](const std::vector<Finished>& done) {
      for (const Finished& finished : done) {
        CHECK(finished.ticket == next++, "out of order");
        check_equal(finished, expected[asked.at(finished.ticket)], check::text("seed ", seed));
      }
    };
    for (unsigned turn = 0; turn < 24; ++turn) {
      const std::size_t set = random.below(4) == 0 ? random.below(5) : seed % 5;
      const auto ticket = launcher.submit(sets[set]->on_device(), everything, stream(random.below(3)));
      if (ticket) asked[*ticket] = set;
      take(launcher.poll());
    }
    take(launcher.wait());
    CHECK(next == asked.size() && asked.size() + launcher.drops() == 24);
  }
}

TEST(launched_by_several_threads_results_are_right) {
  fake::reset("seed=3 late=9");
  const auto tensors = fake::some_tensors(29), others = fake::some_tensors(30);
  const std::vector<TensorSummary> expected[] = {tensors->expected(everything), others->expected(everything)};
  Launcher launcher(0, image(), roomy);
  std::mutex mutex;
  std::map<Ticket, unsigned> asked;
  std::vector<Finished> done;
  std::string failure;
  const auto work = [&](unsigned index) {
    try {
      for (unsigned turn = 0; turn < 20; ++turn) {
        const unsigned set = (index + turn / 4) % 2;
        const auto ticket = launcher.submit((set ? others : tensors)->on_device(), everything, stream(index));
        std::vector<Finished> some = launcher.poll();
        const std::lock_guard lock(mutex);
        if (ticket) asked[*ticket] = set;
        for (Finished& finished : some) done.push_back(std::move(finished));
      }
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex);
      failure = error.what();
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 3; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  CHECK(failure.empty(), failure);
  for (Finished& finished : launcher.wait()) done.push_back(std::move(finished));
  CHECK(done.size() == asked.size() && asked.size() + launcher.drops() == 60);
  for (const Finished& finished : done) {
    check_equal(finished, expected[asked.at(finished.ticket)], check::text("ticket ", finished.ticket));
  }
}

TEST(launched_bins_without_room_are_missing_once) {
  fake::reset();
  Twins tensors;
  tensors.add(DType::k_float32, bytes_of(ordinary_elements<float>(5000, 5)), {5000});
  tensors.add(DType::k_int8, random_bytes(3000, 6), {3000});
  tensors.add(DType::k_float32, bytes_of(ordinary_elements<float>(3, 6)), {3});
  const std::vector<TensorSummary> expected = tensors.expected(everything);
  Launcher launcher(0, image(), {2, 1});
  CHECK(launcher.submit(tensors.on_device(), everything, nullptr));
  const Finished poor = only(launcher.poll());
  CHECK(poor.tensors[0].bins_lost && !poor.tensors[1].bins_lost);  // of the bytes every statistic is made of bins
  for (std::size_t i = 0; i < 3; ++i) {
    const Found& found = poor.tensors[i];
    CHECK(found.summary.summary == expected[i].summary && found.summary.fingerprint == expected[i].fingerprint);
    CHECK(found.summary.histogram.has_value() == !found.bins_lost && (found.bins_lost || found.summary == expected[i]));
  }
  for (unsigned turn = 0; turn < 3; ++turn) {
    CHECK(launcher.submit(tensors.on_device(), everything, nullptr));
    check_equal(only(launcher.poll()), expected, "with room");
  }
  CHECK(count("cuMemcpyHtoDAsync_v2") == 1);
}

// Without a histogram there is room for all bytes, always.
TEST(launched_bytes_always_have_room) {
  fake::reset();
  Twins tensors;
  for (std::uint64_t i = 0; i < 4; ++i) tensors.add(DType::k_uint8, random_bytes(2000, i), {2000});
  const Options options = options_of(HistogramMode::none, 6, false);
  Launcher launcher(0, image(), {2, 0});
  CHECK(launcher.submit(tensors.on_device(), options, nullptr));
  check_equal(only(launcher.poll()), tensors.expected(options), "bytes");
}

TEST(launched_and_closed_all_is_given_back) {
  fake::reset("late=0");
  const std::uint64_t memory = count("memory"), pinned = count("pinned"), events = count("events");
  const std::uint64_t retained = count("retained"), modules = count("modules");
  const auto tensors = fake::some_tensors(28);
  {
    Launcher idle(0, image());
    idle.close();
    CHECK(count("calls") == 0);
  }
  Launcher launcher(0, image(), roomy);
  const cuda::Facts facts = launcher.begin();
  CHECK(facts.name == "Fake GPU" && facts.major == 9 && facts.concurrent() == 8);
  for (unsigned i = 0; i < 3; ++i) CHECK(launcher.submit(tensors->on_device(), everything, stream(i)));
  CHECK(count("modules") == modules + 1 && count("retained") == retained + 1);
  launcher.close();
  launcher.close();
  CHECK(count("memory") == memory + 6 && count("pinned") == pinned && count("events") == events);
  CHECK(count("modules") == modules && count("retained") == retained && count("contexts") == 0);
  check::throws<std::runtime_error>([&] { launcher.submit(tensors->on_device(), everything, nullptr); }, "is closed");
  check::throws<std::runtime_error>([&] { launcher.poll(); }, "is closed");
}

}  // namespace
}  // namespace tensometer
