#include "bindings.hpp"
#include "openmp.hpp"

namespace tensometer {

void register_threads(py::module_& m) {
  m.def(
      "share_openmp", [](py::handle library) { return share_openmp(text_of(library, "library").c_str()); },
      py::arg("library"),
      R"(Compute with the threads of the OpenMP runtime that a loaded library is linked with, in the main thread.

library: the path of a shared library, such as PyTorch's libtorch_cpu.so, whose threads otherwise spin where ours would run.
False, and nothing changes, if it is not loaded or uses no OpenMP. Results are the same bits with any threads. TypeError for what
is no str.)");
}

}  // namespace tensometer
