// The histograms of tensors of which several threads count parts.
#pragma once

#include <cstdint>
#include <vector>

#include "histogram.hpp"
#include "tensor_summary.hpp"

namespace tensometer {

// A part of a histogram that one thread has counted.
struct Gathered {
  LogHistogram* whole;
  LogHistogram part;
};

// What one thread counts. Elements of one tensor stay in its tables from chunk to chunk: to gather them into a histogram
// (some microseconds) is worth it once a tensor, not once a chunk.
class Counting {
 public:
  Counting(LogCounter& counter, std::vector<Gathered>& gathered) : counter_(counter), gathered_(gathered) {}
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;
  ~Counting() {
    if (whole_ != nullptr) counter_.clear();  // an exception came between
  }

  // Before blocks are counted into the tables that belong to the histogram `whole`, whose resolution is set.
  void turn_to(LogHistogram& whole);
  // A block of it has been counted.
  void add(const Summary& block, std::uint32_t weight);
  // When there is nothing more to count.
  void hand_over();

 private:
  LogCounter& counter_;
  std::vector<Gathered>& gathered_;
  LogHistogram* turned_ = nullptr;
  LogHistogram* whole_ = nullptr;  // of what is in the tables
  Counted counted_;
  std::uint64_t elements_ = 0;
};

// Adds up what each thread has gathered.
void join(std::vector<std::vector<Gathered>>& gathered);

}  // namespace tensometer
