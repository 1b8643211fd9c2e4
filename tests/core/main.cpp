// core_tests [--quick] [words...]: runs the tests whose names contain any of the words, one line a test.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "check.hpp"

namespace {

struct Named {
  std::string_view name;
  check::Test test;
};

std::vector<Named>& tests() {
  static std::vector<Named> all;
  return all;
}

bool quick_run = false;

// The failure's message; empty if the test passed.
std::string run(const Named& named) {
  try {
    named.test();
    return {};
  } catch (const check::Failure& failure) {
    return failure.what();
  } catch (const std::exception& error) {
    return std::string("unexpected exception: ") + error.what();
  }
}

}  // namespace

check::Registration::Registration(const char* name, Test test) { tests().push_back({name, test}); }
bool check::quick() { return quick_run; }

int main(int count, char** arguments) {
  std::vector<std::string_view> words(arguments + 1, arguments + count);
  quick_run = std::erase(words, "--quick") != 0;
  std::sort(tests().begin(), tests().end(), [](const Named& a, const Named& b) { return a.name < b.name; });
  unsigned passed = 0, failed = 0;
  for (const Named& named : tests()) {
    const auto wanted = [&](std::string_view word) { return named.name.find(word) != std::string_view::npos; };
    if (!words.empty() && std::none_of(words.begin(), words.end(), wanted)) continue;
    const auto start = std::chrono::steady_clock::now();
    const std::string failure = run(named);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%s %s (%.2f s)\n", failure.empty() ? "ok  " : "FAIL", named.name.data(), seconds.count());
    if (!failure.empty()) std::printf("     %s\n", failure.c_str());
    std::fflush(stdout);
    ++(failure.empty() ? passed : failed);
  }
  std::printf("%u passed, %u failed\n", passed, failed);
  return failed == 0 && passed != 0 ? 0 : 1;
}
