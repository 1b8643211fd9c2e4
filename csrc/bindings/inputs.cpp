// The tensors of one call.
#include <pybind11/stl.h>

#include <algorithm>

#include "bindings.hpp"

namespace tensometer {
namespace {

// A key of a mapping.
std::string name_of_tensor(py::handle name) {
  if (!py::isinstance<py::str>(name)) throw py::type_error("tensors: the names of a mapping must be strings");
  return text_of(name, "tensors: the name");
}

}  // namespace

std::string argument_of(const std::optional<std::vector<std::string>>& names, std::size_t index) {
  return "tensors[" + (names ? "'" + (*names)[index] + "'" : std::to_string(index)) + "]";
}

bool Inputs::on_device() const {
  return std::any_of(places.begin(), places.end(), [](const Place& place) { return place.on_device(); });
}

Input summarized_input_of(py::handle x, const Options& options, const char* argument) {
  Input input = input_of(x, argument);
  // What a sparse tensor stores does not tell where it stores it.
  if (options.fingerprint && input.tensor.shape != input.tensor.values.shape) {
    throw py::value_error(std::string(argument) + ": is sparse, and a fingerprint is of dense tensors only");
  }
  return input;
}

Inputs inputs_of(py::handle tensors, const Options& options) {
  Inputs inputs;
  const auto add = [&](py::handle x) {
    const std::string argument = argument_of(inputs.names, inputs.tensors.size());
    Input input = summarized_input_of(x, options, argument.c_str());
    inputs.tensors.push_back(std::move(input.tensor));
    inputs.places.push_back(input.place);
    inputs.owners.push_back(std::move(input.owner));
  };
  if (py::hasattr(tensors, "items") && py::hasattr(tensors, "keys")) {
    inputs.names.emplace();
    for (py::handle item : tensors.attr("items")()) {
      if (!py::isinstance<py::tuple>(item) || py::len(item) != 2) {
        throw py::type_error("tensors: its items() are not pairs of a name and a tensor");
      }
      const auto pair = py::reinterpret_borrow<py::tuple>(item);
      inputs.names->push_back(name_of_tensor(pair[0]));
      add(pair[1]);
    }
    return inputs;
  }
  if (!py::isinstance<py::iterable>(tensors) || py::isinstance<py::str>(tensors)) {
    throw py::type_error("tensors: " + std::string(py::str(py::type::handle_of(tensors).attr("__name__"))) +
                         " is neither an iterable nor a mapping of tensors");
  }
  for (py::handle x : py::iter(tensors)) add(x);
  return inputs;
}

}  // namespace tensometer
