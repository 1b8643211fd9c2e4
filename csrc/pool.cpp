#include "pool.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "openmp.hpp"

namespace tensometer {
namespace {

// One call of parallel_for. It lives on the caller's stack: `helpers` counts the threads that may still look at it.
struct Job {
  const std::function<void(std::size_t)>& body;
  const std::size_t count;
  unsigned wanted;       // helpers that may still join; guarded by the pool
  unsigned helpers = 0;  // helpers at work; guarded by the pool
  std::atomic<std::size_t> next{0};
  std::mutex failure_mutex{};
  std::exception_ptr failure{};

  void work() {
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        if (!failure) failure = std::current_exception();
        next.store(count, std::memory_order_relaxed);
      }
    }
  }
};

class Pool {
 public:
  void run(Job& job) {
    const unsigned helpers = job.wanted;  // those who join count it down
    {
      const std::lock_guard lock(mutex_);
      grow(helpers);
      jobs_.push_back(&job);
    }
    for (unsigned i = 0; i < helpers; ++i) wake_.notify_one();
    job.work();
    std::unique_lock lock(mutex_);
    std::erase(jobs_, &job);
    finished_.wait(lock, [&] { return job.helpers == 0; });
  }

 private:
  // Threads are started when they are first wanted and never stopped: they sleep, and end with the process.
  void grow(unsigned wanted) {
    while (size_ < wanted) {
      try {
        std::thread([this] { serve(); }).detach();
      } catch (const std::system_error&) {
        return;  // fewer threads are slower, not wrong
      }
      ++size_;
    }
  }

  void serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      Job* job = nullptr;
      wake_.wait(lock, [&] {
        const auto open = std::find_if(jobs_.begin(), jobs_.end(), [](const Job* j) { return j->wanted > 0; });
        job = open == jobs_.end() ? nullptr : *open;
        return job != nullptr;
      });
      --job->wanted;
      ++job->helpers;
      lock.unlock();
      job->work();
      lock.lock();
      if (--job->helpers == 0) finished_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::vector<Job*> jobs_;
  unsigned size_ = 0;
};

// A child of fork has none of the threads, and perhaps a locked mutex: it forgets the pool and makes its own. Never
// deleted, so that threads may outlive static destruction.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });
  static_cast<void>(registered);
  Pool* existing = the_pool.load();
  if (existing != nullptr) return *existing;
  Pool* fresh = new Pool;
  if (the_pool.compare_exchange_strong(existing, fresh)) return *fresh;
  delete fresh;  // another thread was first; this one never started a thread
  return *existing;
}

// CPUs that the cgroup's quota allows (v2, then v1); infinity where there is none.
double cgroup_cpus() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period && quota != "max" && period > 0) return std::strtod(quota.c_str(), nullptr) / period;
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double allowed = 0;
  if (v1_quota >> allowed && v1_period >> period && allowed > 0 && period > 0) return allowed / period;
  return HUGE_VAL;
}

}  // namespace

unsigned usable_cpus() {
  static const unsigned present = std::max(1u, std::thread::hardware_concurrency());  // it reads a file each time
  unsigned cpus = present;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
  static const double quota = cgroup_cpus();
  return static_cast<unsigned>(std::max(1.0, std::min(static_cast<double>(cpus), std::ceil(quota))));
}

unsigned threads_from_environment() {
  const char* text = std::getenv("TENSOMETER_NUM_THREADS");
  if (text == nullptr || *text == '\0') return 0;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 1 || value > 1024) {
    throw std::invalid_argument("TENSOMETER_NUM_THREADS: '" + std::string(text) +
                                "' is not a whole number from 1 to 1024");
  }
  return static_cast<unsigned>(value);
}

unsigned thread_count(unsigned threads) { return threads != 0 ? threads : usable_cpus(); }

void parallel_for(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& body) {
  const std::size_t useful = std::min<std::size_t>(count, threads);
  Job job{body, count, useful > 1 ? static_cast<unsigned>(useful - 1) : 0};
  if (job.wanted == 0) {
    job.work();
  } else if (!run_on_openmp(static_cast<unsigned>(useful), [&] { job.work(); })) {
    pool().run(job);
  }
  if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace tensometer
