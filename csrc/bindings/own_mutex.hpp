// The mutex of an object that several Python threads may use at once.
#pragma once

#include <unistd.h>

#include <atomic>
#include <mutex>
#include <stdexcept>

namespace tensometer {

// As std::mutex, to be taken without the GIL. In a child forked while another thread held it nobody is left to give it back:
// lock() throws std::runtime_error there.
class OwnMutex {
 public:
  void lock() {
    if (!mutex_.try_lock()) {
      const pid_t holder = holder_.load();
      if (holder != 0 && holder != getpid()) {
        throw std::runtime_error("this object was in use in another thread when the process was forked");
      }
      mutex_.lock();
    }
    holder_.store(getpid());
  }
  bool try_lock() {
    if (!mutex_.try_lock()) return false;
    holder_.store(getpid());
    return true;
  }
  void unlock() {
    holder_.store(0);
    mutex_.unlock();
  }

 private:
  std::mutex mutex_;
  std::atomic<pid_t> holder_{0};  // the process of the thread that has it
};

}  // namespace tensometer
