// A registry of tests and one macro to check with: what the core's tests need of a framework.
#pragma once

#include <cstdint>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace check {

using Test = void (*)();

struct Registration {
  Registration(const char* name, Test test);
};

// Set by --quick: fewer repetitions of the same kind, for emulators and ThreadSanitizer.
bool quick();

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The builtins stand in for std::source_location, which Clang 14 lacks.
[[noreturn]] inline void fail(const std::string& message, std::string_view file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  throw Failure(std::string(file.substr(file.rfind('/') + 1)) + ":" + std::to_string(line) + ": " + message);
}

// What a failed check says about where in a loop it happened: words and values, one after another.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  out.precision(17);
  (out << ... << parts);
  return out.str();
}

// Calls body and expects that exception, its message containing `words`.
template <class Exception, class Body>
void throws(Body&& body, std::string_view words = {}, std::string_view file = __builtin_FILE(),
            int line = __builtin_LINE()) {
  try {
    body();
  } catch (const Exception& caught) {
    if (std::string_view(caught.what()).find(words) != std::string_view::npos) return;
    fail(text("message '", caught.what(), "' lacks '", words, "'"), file, line);
  }
  fail("no exception", file, line);
}

}  // namespace check

#define TEST(name)                                                  \
  static void name();                                               \
  static const ::check::Registration register_##name(#name, &name); \
  static void name()

// CHECK(condition, words and values that tell where...): the words are put together only on failure.
#define CHECK(condition, ...)                                                                  \
  do {                                                                                         \
    if (!(condition)) ::check::fail(::check::text(#condition " " __VA_OPT__(, ) __VA_ARGS__)); \
  } while (false)
