// A device that is none: its memory is memory of this process that nobody can read but an operation that runs, its streams
// are queues that run when somebody asks or waits for an event, in an order that a seed chooses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "cuda/driver.hpp"

namespace tensometer::fake {

using cuda::Status;
using Address = std::uintptr_t;

// TENSOMETER_FAKE="name=value name=value".
struct Settings {
  long devices = 1;
  long owner = 0;  // the device that memory is allocated on from now on
  long major = 9, minor = 0;
  long version = 13000;  // of CUDA, that the driver is of
  long fail_at = 0;      // the driver call, from 1, that fails; 0: none
  long error = 700;      // how it fails; from 700 to 719 every later call does too
  long seed = 0;
  long late = -1;      // a query lets at most so many operations run; -1: all that can
  long capturing = 0;  // the stream handle that is being captured; 0: none
  long foreign = 0;    // the stream handle that is another device's; 0: none
  long adopt = 0;      // 1: all other memory of the process is the device's too

  static Settings from_environment();
};

// Pages between two that nobody may touch. What was asked for ends where they end, but for its alignment.
class Pages {
 public:
  explicit Pages(std::size_t bytes);
  ~Pages();
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::byte* data() const { return data_; }
  bool holds(Address from, std::size_t bytes) const;
  void protect(bool closed) const;

  long owner = 0;

 private:
  std::byte* base_;
  std::byte* data_;
  std::size_t inner_, bytes_;
};

struct Event {
  std::uint64_t recorded = 0, done = 0;
};

struct Operation {
  std::function<void()> run;
  std::function<bool()> ready;  // empty: always
};

class Device {
 public:
  static Device& the();

  void reset();  // reads the environment again, and counts from 0
  Status alloc(std::size_t bytes, bool pinned, void** pointer);
  Status free(void* pointer, bool pinned);
  const Pages* find(Address from, std::size_t bytes, bool pinned) const;
  void write(void* to, const void* from, std::size_t bytes);
  void enqueue(cuda::StreamHandle stream, Operation operation) { streams_[stream].push_back(std::move(operation)); }
  // Lets operations run, until `enough` or there is none that can.
  void advance(const std::function<bool()>& enough);
  void advance_somewhat();
  std::uint64_t random() { return random_(); }
  std::uint64_t count(const std::string& name) const;

  Settings settings;
  Status sticky = 0;
  std::uint64_t calls = 0;
  std::map<std::string, std::uint64_t> counts;
  std::map<cuda::EventHandle, std::shared_ptr<Event>> events;
  long retained = 0, modules = 0;

 private:
  Device() { reset(); }
  bool step();

  std::map<void*, std::unique_ptr<Pages>> memory_, pinned_;
  std::map<cuda::StreamHandle, std::deque<Operation>> streams_;
  std::mt19937_64 random_;
};

}  // namespace tensometer::fake
