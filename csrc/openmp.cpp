#include "openmp.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace tensometer {
namespace {

// Entry points that GCC's runtime has, and LLVM's and Intel's for its sake.
struct Runtime {
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
  int (*max_threads)();
  int (*in_parallel)();
};

std::atomic<const Runtime*> shared_runtime{nullptr};

struct Team {
  const std::function<void()>& work;
  std::atomic<unsigned> places;
};

void take_part(void* data) {
  auto& team = *static_cast<Team*>(data);
  for (unsigned left = team.places.load(); left > 0;) {
    if (team.places.compare_exchange_weak(left, left - 1)) return team.work();
  }
}

// A forked child has no threads of any runtime, whoever shares it when.
const pid_t own_process = getpid();

bool in_main_thread() { return syscall(SYS_gettid) == getpid(); }

}  // namespace

bool share_openmp(const char* library) {
  if (getpid() != own_process) return false;
  void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) return false;
  // A handle's symbols are those of the library and of all that it is linked with. They stay: the library is never unloaded.
  const Runtime found{reinterpret_cast<decltype(Runtime::parallel)>(dlsym(handle, "GOMP_parallel")),
                      reinterpret_cast<decltype(Runtime::max_threads)>(dlsym(handle, "omp_get_max_threads")),
                      reinterpret_cast<decltype(Runtime::in_parallel)>(dlsym(handle, "omp_in_parallel"))};
  if (found.parallel == nullptr || found.max_threads == nullptr || found.in_parallel == nullptr) {
    dlclose(handle);
    return false;
  }
  static const int registered = pthread_atfork(nullptr, nullptr, [] { shared_runtime.store(nullptr); });
  static_cast<void>(registered);
  static const Runtime runtime = found;  // the first that is shared is the only one
  shared_runtime.store(&runtime);
  return true;
}

namespace {

// The size of the shared team; 0 where there is none for this thread.
int team_size(const Runtime* runtime) {
  if (runtime == nullptr || !in_main_thread() || runtime->in_parallel() != 0) return 0;
  const int size = runtime->max_threads();
  return size < 2 ? 0 : size;
}

}  // namespace

bool openmp_is_ready() { return team_size(shared_runtime.load()) != 0; }

bool run_on_openmp(unsigned threads, const std::function<void()>& work) {
  const Runtime* runtime = shared_runtime.load();
  const int size = team_size(runtime);
  if (size == 0) return false;
  // Always its whole team, where those who find no place go home: it would end threads that are left out of one.
  Team team{work, threads};
  runtime->parallel(&take_part, &team, static_cast<unsigned>(size), 0);
  return true;
}

}  // namespace tensometer
