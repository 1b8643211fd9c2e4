// The threads of an OpenMP runtime that another library of this process computes with.
//
// Between two operations of PyTorch its threads spin for milliseconds, on the very CPUs where those of our own pool would have
// to run; asked to do our work, they have begun within a microsecond.
#pragma once

#include <functional>

namespace tensometer {

// From now on, the runtime that a loaded library is linked with serves parallel_for() in the main thread, wherever it would
// use several threads itself. False, and nothing is changed, if the library is not loaded or linked with none, or in the child of a fork.
bool share_openmp(const char* library);

// Whether run_on_openmp() would run something now.
bool openmp_is_ready();

// Runs `work`, which must not throw, in up to `threads` threads of the shared runtime at once, the caller's among them. False,
// and nothing was run, where none is shared: not in other threads, for each of which a runtime starts threads of its own; not
// in a forked child, where its threads are gone; not where it computes on one thread.
bool run_on_openmp(unsigned threads, const std::function<void()>& work);

}  // namespace tensometer
