#include "cuda/driver.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

namespace tensometer::cuda {
namespace {

// The process that first used the driver; its children cannot.
std::atomic<pid_t> first_user{0};

template <class Signature>
void resolve(void* library, const std::string& path, Function<Signature>& function) {
  function.pointer = reinterpret_cast<Signature*>(dlsym(library, function.name));
  if (function.pointer == nullptr) {
    throw CudaError("cuda: the driver " + path + " lacks " + function.name + "; it is older than CUDA 11", 0);
  }
}

std::string words(const Function<Status(Status, const char**)>& function, Status status, const std::string& otherwise) {
  const char* text = nullptr;
  return function.pointer(status, &text) == 0 && text != nullptr ? text : otherwise;
}

}  // namespace

void Driver::fail(const char* name, Status status) const {
  const std::string number = "error " + std::to_string(status);
  throw CudaError("cuda: " + std::string(name) + " failed: " + words(error_name, status, number) + ": " +
                      words(error_text, status, "the driver has no words for it"),
                  status);
}

void check_process() {
  const pid_t user = first_user.load(std::memory_order_relaxed);
  if (user == 0 || user == getpid()) return;
  throw std::runtime_error("cuda: this process was forked from one that takes CUDA statistics (process " +
                           std::to_string(user) +
                           "), and CUDA does not survive a fork; start it by spawn or forkserver");
}

std::shared_ptr<const Driver> open_driver() {
  check_process();
  const char* named = std::getenv("TENSOMETER_LIBCUDA");
  const std::string path = named != nullptr && *named != '\0' ? named : "libcuda.so.1";
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw CudaError("cuda: no driver: " + std::string(reason != nullptr ? reason : path), 0);
  }
  auto driver = std::make_shared<Driver>();
#define TENSOMETER_RESOLVE(member, symbol, parameters) resolve(library, path, driver->member);
  TENSOMETER_DRIVER_FUNCTIONS(TENSOMETER_RESOLVE)
#undef TENSOMETER_RESOLVE
  driver->call(driver->init, 0u);
  pid_t nobody = 0;
  first_user.compare_exchange_strong(nobody, getpid());
  return driver;
}

int version_of(const Driver& driver) {
  int version = 0;
  driver.call(driver.driver_version, &version);
  return version;
}

}  // namespace tensometer::cuda
