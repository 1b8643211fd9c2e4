#include "dispatch.hpp"

#include <pybind11/stl.h>

#include "bindings.hpp"

namespace tensometer {

void register_dispatch(py::module_& m) {
  m.def(
      "isas",
      [] {
        std::vector<std::string> names;
        for (const InstructionSet* set : instruction_sets()) names.emplace_back(set->name);
        return names;
      },
      R"(Names of the instruction sets that this machine runs, narrowest first; the last is the default.

All of them give the same bits. TENSOMETER_ISA or `with tensometer.isa(name):` forces one.)");
  m.def(
      "dtypes",
      [] {
        std::vector<std::string> names;
        for (const DTypeRow& row : dtype_rows) names.emplace_back(row.name);
        return names;
      },
      "Names of the element types that can be summarized.");
  py::class_<ForcedIsa>(m, "isa", py::is_final(),
                        R"(Force one instruction set, for the whole process, while the block runs.

Raises ValueError if the name is not in isas(); nested blocks restore the one outside.)")
      .def(py::init([](py::handle given) {
             const std::string name = short_text_of(given, "name");
             static_cast<void>(instruction_set_named(name, "isa"));  // an unknown name fails here, before the block
             return ForcedIsa{name, {}};
           }),
           py::arg("name"))
      .def("__enter__",
           [](py::object self) {
             auto& forced = self.cast<ForcedIsa&>();
             forced.before.push_back(select_instruction_set(forced.name));
             return self;
           })
      .def(
          "__exit__",
          [](ForcedIsa& forced, const py::object&, const py::object&, const py::object&) {
            if (forced.before.empty()) throw std::runtime_error("isa: left without having been entered");
            select_instruction_set(forced.before.back());
            forced.before.pop_back();
          },
          py::arg("exc_type"), py::arg("exc"), py::arg("traceback"));
}

}  // namespace tensometer
