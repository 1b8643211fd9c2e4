// A thread of control that runs until it waits.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace tensometer::emulation {

class Fiber {
 public:
  explicit Fiber(std::function<void()> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // From outside: run it until it waits or ends.
  void resume();
  // From inside: back to who resumed it.
  void wait();
  bool ended() const { return ended_; }

  void run();  // its beginning; for the switch alone

 private:
  struct Switch;
  std::unique_ptr<Switch> switch_;
  std::function<void()> body_;
  bool ended_ = false;
};

}  // namespace tensometer::emulation
