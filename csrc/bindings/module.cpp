#include "bindings.hpp"
#include "pool.hpp"

PYBIND11_MODULE(_core, m) {
  using namespace tensometer;
  m.doc() = "The compiled core of tensometer.";
  m.attr("__version__") = TENSOMETER_VERSION;
  static_cast<void>(usable_cpus());  // reads the cgroup once, now: a fork by another thread must not meet it half done
  // The same of NumPy's functions: to look them up lets other threads run, and at the end of the interpreter it may end there
  // a daemon thread whose C++ cannot be unwound.
  py::detail::npy_api::get();
  register_dispatch(m);
  register_threads(m);
  register_histogram(m);
  register_log_histogram(m);
  register_summary(m);
  register_table(m);
  register_compare(m);
  register_stream(m);
  register_reduce(m);
  register_records(m);
  register_updates(m);
  register_cuda(m);
  register_pending(m);
  register_device_updates(m);
}
