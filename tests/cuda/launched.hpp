// What the launcher's tests have in common.
#pragma once

#include "cuda/launcher.hpp"
#include "fake.hpp"

namespace tensometer {

using cuda::CudaError;
using cuda::Finished;
using cuda::Found;
using cuda::Launcher;
using cuda::OutOfMemory;
using cuda::Ticket;
using fake::count;
using fake::image;
using fake::stream;
using fake::Twins;

inline Options options_of(HistogramMode histogram, unsigned resolution, bool fingerprint) {
  Options options;
  options.histogram = histogram, options.resolution = resolution, options.fingerprint = fingerprint;
  options.threads = 1;
  return options;
}

inline const Options everything = options_of(HistogramMode::full, 3, true);
inline const cuda::LauncherOptions roomy{4, 10000};

inline void check_equal(const Finished& finished, const std::vector<TensorSummary>& expected, const std::string& what) {
  CHECK(finished.tensors.size() == expected.size(), what);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Found& found = finished.tensors[i];
    CHECK(!found.bins_lost, what, ", tensor ", i);
    CHECK(difference(found.summary.summary, expected[i].summary).empty(), what, ", tensor ", i, ": ",
          difference(found.summary.summary, expected[i].summary));
    CHECK(found.summary == expected[i], what, ", tensor ", i);
  }
}

// Which a submit survives, if there is none.
inline std::uint64_t calls_that_take_memory() {
  std::uint64_t calls = 0;
  for (const char* name : {"cuMemAlloc_v2", "cuMemHostAlloc", "cuDevicePrimaryCtxRetain", "cuModuleLoadData",
                           "cuModuleGetFunction", "cuFuncSetAttribute", "cuEventCreate"}) {
    calls += count(name);
  }
  return calls;
}

inline Finished only(std::vector<Finished> finished) {
  CHECK(finished.size() == 1, finished.size(), " are done");
  return std::move(finished.front());
}

}  // namespace tensometer
