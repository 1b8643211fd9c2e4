#include "cuda/emulation/fiber.hpp"

#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#elif defined(TENSOMETER_UNDER_TSAN)
// This file itself is compiled without ThreadSanitizer: what the machine does is no race between threads of a kernel.
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__)
// Saves what a call must keep and the stack, and goes on where another stack was left.
extern "C" void tensometer_fiber_switch(void** save, void* load);
asm(R"(
.text
.globl tensometer_fiber_switch
.hidden tensometer_fiber_switch
.type tensometer_fiber_switch, @function
tensometer_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tensometer_fiber_switch, . - tensometer_fiber_switch
)");
#else
#include <ucontext.h>
#endif

namespace tensometer::emulation {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(TENSOMETER_UNDER_TSAN)
constexpr std::size_t stack_bytes = 256 << 10;
#else
constexpr std::size_t stack_bytes = 64 << 10;
#endif

// Stacks are used again by the next block: to make one anew, from the system, costs more than all its thread does. Not under
// TSan, which would take what two threads did there, one after the other, for a race.
std::vector<void*>& spare_stacks() {
  thread_local std::vector<void*> spare;
  return spare;
}

void* new_stack() {
  std::vector<void*>& spare = spare_stacks();
  if (!spare.empty()) {
    void* stack = spare.back();
    spare.pop_back();
    return stack;
  }
  void* stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) throw std::bad_alloc();
  return stack;
}

void end_stack(void* stack) {
#if defined(TENSOMETER_UNDER_TSAN)
  munmap(stack, stack_bytes);
#else
  spare_stacks().push_back(stack);
#endif
}

thread_local Fiber* starting = nullptr;

void begin() { starting->run(); }

}  // namespace

struct Fiber::Switch {
  void* stack = new_stack();
#if defined(__x86_64__)
  void *inside = nullptr, *outside = nullptr;
#else
  ucontext_t inside, outside;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void *fake_inside = nullptr, *fake_outside = nullptr;
  const void* stack_outside = nullptr;
  std::size_t size_outside = 0;
#elif defined(TENSOMETER_UNDER_TSAN)
  void *thread_inside = __tsan_create_fiber(0), *thread_outside = nullptr;
#endif
  ~Switch() {
#if defined(TENSOMETER_UNDER_TSAN)
    __tsan_destroy_fiber(thread_inside);
#endif
    end_stack(stack);
  }
};

Fiber::Fiber(std::function<void()> body) : switch_(std::make_unique<Switch>()), body_(std::move(body)) {
#if defined(__x86_64__)
  // As if begin() had been called and six registers pushed: aligned as after a call.
  auto top = reinterpret_cast<std::uintptr_t>(switch_->stack) + stack_bytes;
  auto* slots = reinterpret_cast<void**>(top) - 10;
  for (int i = 0; i < 10; ++i) slots[i] = nullptr;
  slots[6] = reinterpret_cast<void*>(&begin);
  switch_->inside = slots;
#else
  getcontext(&switch_->inside);
  switch_->inside.uc_stack = {switch_->stack, 0, stack_bytes};
  switch_->inside.uc_link = nullptr;
  makecontext(&switch_->inside, &begin, 0);
#endif
}

Fiber::~Fiber() = default;

void Fiber::resume() {
  starting = this;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&switch_->fake_outside, switch_->stack, stack_bytes);
#elif defined(TENSOMETER_UNDER_TSAN)
  // What the launching thread did happened before; of what a fiber did, it knows nothing, as it comes back by a 1.
  switch_->thread_outside = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(switch_->thread_inside, 0);
#endif
#if defined(__x86_64__)
  tensometer_fiber_switch(&switch_->outside, switch_->inside);
#else
  swapcontext(&switch_->outside, &switch_->inside);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(switch_->fake_outside, nullptr, nullptr);
#endif
}

void Fiber::wait() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(ended_ ? nullptr : &switch_->fake_inside, switch_->stack_outside,
                                 switch_->size_outside);
#elif defined(TENSOMETER_UNDER_TSAN)
  __tsan_switch_to_fiber(switch_->thread_outside, 1);
#endif
#if defined(__x86_64__)
  tensometer_fiber_switch(&switch_->inside, switch_->outside);
#else
  swapcontext(&switch_->inside, &switch_->outside);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(switch_->fake_inside, &switch_->stack_outside, &switch_->size_outside);
#endif
}

void Fiber::run() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &switch_->stack_outside, &switch_->size_outside);
#endif
  body_();
  ended_ = true;
  wait();
}

}  // namespace tensometer::emulation
