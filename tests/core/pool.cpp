// The thread pool: every index once, exceptions, nesting, many callers at once, fork.
#include "pool.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <numeric>
#include <thread>

#include "data.hpp"

namespace tensometer {
namespace {

TEST(pool_calls_every_index_once) {
  for (unsigned threads = 0; threads <= 8; ++threads) {
    for (const std::size_t count : {0u, 1u, 2u, 3u, 7u, 100u, 1000u}) {
      std::vector<std::atomic<int>> calls(count);
      parallel_for(count, threads, [&](std::size_t i) { ++calls[i]; });
      for (std::size_t i = 0; i < count; ++i) CHECK(calls[i] == 1, threads, " threads, index ", i, " of ", count);
    }
  }
}

TEST(pool_throws_the_exception_of_a_body_and_goes_on) {
  for (unsigned turn = 0; turn < 200; ++turn) {
    std::atomic<int> running{0}, called{0};
    check::throws<std::out_of_range>(
        [&] {
          parallel_for(64, 4, [&](std::size_t i) {
            ++running, ++called;
            if (i == turn % 64) {
              --running;
              throw std::out_of_range("index " + std::to_string(i));
            }
            --running;
          });
        },
        "index " + std::to_string(turn % 64));
    CHECK(running == 0 && called >= 1, "bodies still running after turn ", turn);
  }
  std::atomic<int> all{0};
  parallel_for(100, 4, [&](std::size_t) { ++all; });
  CHECK(all == 100);
}

TEST(pool_throws_when_every_body_does) {
  for (unsigned turn = 0; turn < 100; ++turn) {
    check::throws<std::runtime_error>([] { parallel_for(50, 4, [](std::size_t) { throw std::runtime_error("all"); }); },
                                      "all");
  }
}

TEST(pool_may_be_used_from_a_body) {
  std::atomic<int> calls{0};
  parallel_for(10, 4, [&](std::size_t) {
    parallel_for(10, 4, [&](std::size_t) { parallel_for(10, 3, [&](std::size_t) { ++calls; }); });
  });
  CHECK(calls == 1000, calls.load());
}

TEST(pool_may_be_used_from_many_threads) {
  const std::vector<float> elements = ordinary_elements<float>(400000, 70);
  const TensorView view = vector_view(elements.data(), DType::k_float32, elements.size());
  const Options options{HistogramMode::full, 6, true, 3};
  const TensorSummary expected = summarize_one(view, options);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (unsigned t = 0; t < 8; ++t) {
    callers.emplace_back([&, t] {
      for (unsigned turn = 0; turn < (check::quick() ? 3u : 20u); ++turn) {
        if (turn % 4 == 3 && t % 2 == 0) {
          try {
            parallel_for(16, 3, [](std::size_t i) {
              if (i == 5) throw std::runtime_error("five");
            });
            ++wrong;
          } catch (const std::runtime_error&) {
          }
        }
        wrong += !(summarize_one(view, options) == expected);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0, wrong.load(), " wrong results");
}

// Whether a child of fork, which has none of the pool's threads, computes the same.
bool child_agrees(const TensorView& view, const TensorSummary& expected) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // a child that hangs ends by this
    bool agrees = false;
    try {
      agrees = summarize_one(view, {HistogramMode::full, 6, true, 4}) == expected;
      std::atomic<int> calls{0};
      parallel_for(1000, 4, [&](std::size_t) { ++calls; });
      agrees = agrees && calls == 1000;
    } catch (...) {
    }
    _exit(agrees ? 0 : 1);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(pool_survives_fork) {
  const std::vector<float> elements = ordinary_elements<float>(1000000, 71);
  const TensorView view = vector_view(elements.data(), DType::k_float32, elements.size());
  const TensorSummary expected = summarize_one(view, {HistogramMode::full, 6, true, 4});
  for (unsigned turn = 0; turn < 5; ++turn) CHECK(child_agrees(view, expected), "child ", turn);
  CHECK(summarize_one(view, {HistogramMode::full, 6, true, 4}) == expected, "the parent, afterwards");
}

TEST(pool_survives_fork_while_other_threads_use_it) {
  const std::vector<float> elements = ordinary_elements<float>(300000, 72);
  const TensorView view = vector_view(elements.data(), DType::k_float32, elements.size());
  const TensorSummary expected = summarize_one(view, {HistogramMode::full, 6, true, 4});
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) parallel_for(64, 4, [](std::size_t) {});
  });
  bool agrees = true;
  for (unsigned turn = 0; turn < 20; ++turn) agrees = agrees && child_agrees(view, expected);
  stop = true;
  busy.join();
  CHECK(agrees);
}

// Sets a variable while it lives. Only where no other thread runs.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

TEST(thread_count_is_its_argument_or_the_usable_cpus) {
  CHECK(usable_cpus() >= 1);
  CHECK(thread_count(3) == 3);
  CHECK(thread_count(0) == usable_cpus());
}

TEST(threads_are_read_from_the_environment) {
  CHECK(threads_from_environment() == 0);
  {
    const Variable five("TENSOMETER_NUM_THREADS", "5");
    CHECK(threads_from_environment() == 5);
  }
  for (const char* wrong : {"0", "-1", "1025", "two", "3 ", "1e3", "99999999999999999999"}) {
    const Variable variable("TENSOMETER_NUM_THREADS", wrong);
    check::throws<std::invalid_argument>([] { threads_from_environment(); }, wrong);
  }
}

}  // namespace
}  // namespace tensometer
