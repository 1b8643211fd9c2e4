// A small pool of threads. Callers from any thread may use it at once; a forked child starts a pool of its own.
#pragma once

#include <cstddef>
#include <functional>

namespace tensometer {

// The CPUs this process may use: affinity, and the cgroup's CPU quota rounded up. At least 1.
unsigned usable_cpus();

// What `threads` means: itself if positive; for 0, TENSOMETER_NUM_THREADS or else usable_cpus(). Throws
// std::invalid_argument if the variable is not a whole number from 1 to 1024.
unsigned thread_count(unsigned threads);

// Calls body(i) once for every i below count, on up to `threads` threads, the caller's among them; returns when all are
// done. The first exception of a body is thrown here, after the others have ended; what had not begun is then skipped.
void parallel_for(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& body);

}  // namespace tensometer
