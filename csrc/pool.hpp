// A small pool of threads. Callers from any thread may use it at once; a forked child starts a pool of its own.
#pragma once

#include <cstddef>
#include <functional>

namespace tensometer {

// The CPUs this process may use: affinity, and the cgroup's CPU quota rounded up. At least 1.
unsigned usable_cpus();

// What TENSOMETER_NUM_THREADS asks for; 0 if it is not set or empty. Throws std::invalid_argument if it is not a whole number
// from 1 to 1024. Not while another thread may change the environment: Python's does so only while it holds the GIL.
unsigned threads_from_environment();

// What `threads` means: itself if positive; for 0, usable_cpus().
unsigned thread_count(unsigned threads);

// Calls body(i) once for every i below count, on up to `threads` threads, the caller's among them; returns when all are
// done. The first exception of a body is thrown here, after the others have ended; what had not begun is then skipped.
void parallel_for(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& body);

}  // namespace tensometer
