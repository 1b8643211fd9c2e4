// The host has no memory for what has come: nothing of it is lost, and the next call brings it.
#include <dlfcn.h>

#include <cstdlib>
#include <new>

#include "cuda/engine.hpp"
#include "launched.hpp"

namespace {

thread_local long until_failure = 0;  // 0: none

// Whether that is code of this program: the fake driver's own memory is no matter here.
bool is_here(const void* address) {
  Dl_info asked{}, here{};
  static const int mark = 0;
  return dladdr(address, &asked) != 0 && dladdr(&mark, &here) != 0 && asked.dli_fbase == here.dli_fbase;
}

}  // namespace

// Not inlined: the compiler would miss the usual pairs of new and delete.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (until_failure > 0 && is_here(__builtin_return_address(0)) && --until_failure == 0) throw std::bad_alloc();
  void* const memory = std::malloc(bytes != 0 ? bytes : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
// Those that do not throw too: AddressSanitizer has its own.
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes != 0 ? bytes : 1);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace tensometer {
namespace {

TEST(shared_engines_lose_nothing_where_the_host_has_no_memory) {
  fake::reset();
  const auto tensors = fake::some_tensors(40), others = fake::some_tensors(41);
  const std::vector<TensorView> views = tensors->on_device(), other_views = others->on_device();
  const std::vector<TensorSummary> expected = tensors->expected(everything),
                                   expected_others = others->expected(everything);
  cuda::Engine engine(0, image());
  unsigned failures = 0;
  for (long n = 1, failed = 1; failed == 1; n += check::quick() ? 5 : 1) {
    const Ticket first = engine.submit(views, everything, stream(1));
    const Ticket unwanted = engine.submit(views, everything, stream(1));
    const Ticket last = engine.submit(other_views, everything, stream(2));
    engine.forget(unwanted);
    failed = 0;
    until_failure = n;
    try {
      static_cast<void>(engine.ready(first));
      static_cast<void>(engine.ready(last));
    } catch (const std::bad_alloc&) {
      failed = 1;
      ++failures;
    }
    until_failure = 0;
    check_equal(engine.take(last), expected_others, check::text("allocation ", n, ", the last"));
    check_equal(engine.take(first), expected, check::text("allocation ", n, ", the first"));
  }
  CHECK(failures > (check::quick() ? 4 : 20), failures, " failures");
}

TEST(shared_engines_tell_who_asks_twice) {
  fake::reset();
  const auto tensors = fake::some_tensors(42);
  const std::vector<TensorView> views = tensors->on_device();
  cuda::Engine engine(0, image());
  const Ticket ticket = engine.submit(views, everything, stream(1));
  static_cast<void>(engine.take(ticket));
  check::throws<std::logic_error>([&] { engine.take(ticket); }, "was taken before");
}

}  // namespace
}  // namespace tensometer
