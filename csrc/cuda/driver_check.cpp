// Whether driver.hpp says what cuda.h says. Only compiled, where there is a cuda.h; nothing of it runs.
#include <cuda.h>

#include <type_traits>

#include "cuda/driver.hpp"

namespace tensometer::cuda {
namespace {

// A type as driver.hpp writes it: enumerations are the integers under them.
template <class T, bool is_enum = std::is_enum_v<T>>
struct Written {
  using Type = T;
};
template <class T>
struct Written<T, true> {
  using Type = std::underlying_type_t<T>;
};
template <class T>
struct Written<T*, false> {
  using Type = typename Written<T>::Type*;
};
template <class Result, class... Parameters>
struct Written<Result(Parameters...), false> {
  using Type = typename Written<Result>::Type(typename Written<Parameters>::Type...);
};

#define TENSOMETER_SAME(member, symbol, parameters) \
  static_assert(std::is_same_v<Status parameters, Written<decltype(::symbol)>::Type>, #symbol " is another");
TENSOMETER_DRIVER_FUNCTIONS(TENSOMETER_SAME)
#undef TENSOMETER_SAME

#define TENSOMETER_SAME(name, original, value) \
  static_assert(constants::name == static_cast<unsigned>(original), #original " is another");
TENSOMETER_DRIVER_CONSTANTS(TENSOMETER_SAME)
#undef TENSOMETER_SAME

static_assert(CUDA_VERSION >= 11000);

}  // namespace
}  // namespace tensometer::cuda
