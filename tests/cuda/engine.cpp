// A launcher that several share, over a fake driver: each has what came of its own submits.
#include "cuda/engine.hpp"

#include <thread>

#include "launched.hpp"

namespace tensometer {
namespace {

using cuda::Engine;

TEST(shared_engines_bring_results_in_any_order) {
  fake::reset("late=0");
  const auto tensors = fake::some_tensors(30), others = fake::some_tensors(31);
  Engine engine(0, image());
  const std::vector<TensorView> views = tensors->on_device(), other_views = others->on_device();
  const Ticket first = engine.submit(views, everything, stream(1));
  const Ticket unwanted = engine.submit(other_views, everything, stream(2));
  const Ticket last = engine.submit(other_views, everything, stream(3));
  CHECK(!engine.ready(first) && !engine.ready(last));
  engine.forget(unwanted);
  check_equal(engine.take(last), others->expected(everything), "the last");
  CHECK(engine.ready(first));
  check_equal(engine.take(first), tensors->expected(everything), "the first");
}

TEST(shared_engines_wait_for_a_slot_or_do_not) {
  fake::reset("late=0");
  const Options plain = options_of(HistogramMode::none, 3, true);
  const auto tensors = fake::some_tensors(32);
  const std::vector<TensorView> views = tensors->on_device();
  Engine engine(0, image());
  std::vector<Ticket> tickets;
  while (const auto ticket = engine.try_submit(views, plain, stream(1))) tickets.push_back(*ticket);
  CHECK(tickets.size() == 32, tickets.size(), " slots");
  tickets.push_back(engine.submit(views, plain, stream(1)));
  for (const Ticket ticket : tickets) check_equal(engine.take(ticket), tensors->expected(plain), "one of many");
}

TEST(shared_engines_serve_several_threads) {
  fake::reset("seed=3 late=3");
  Engine engine(0, image());
  std::vector<std::thread> threads;
  for (std::uint64_t number = 0; number < 3; ++number) {
    threads.emplace_back([&engine, number] {
      const auto tensors = fake::some_tensors(33 + number);
      const std::vector<TensorView> views = tensors->on_device();
      const std::vector<TensorSummary> expected = tensors->expected(everything);
      for (unsigned turn = 0; turn < 10; ++turn) {
        const Ticket ticket = engine.submit(views, everything, stream(number + 1));
        check_equal(engine.take(ticket), expected, check::text("thread ", number));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tensometer
