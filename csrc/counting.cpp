#include "counting.hpp"

#include <utility>

namespace tensometer {

void Counting::turn_to(LogHistogram& whole) {
  constexpr std::uint64_t most = UINT32_MAX / 2;  // a counter holds that, and the largest chunk eight times over
  if (whole_ != &whole || elements_ > most) hand_over();
  turned_ = &whole;
}

void Counting::add(const Summary& block, std::uint32_t weight) {
  whole_ = turned_;
  elements_ += block.count * weight;
  count(block, weight, counted_);
}

void Counting::hand_over() {
  if (whole_ == nullptr) return;
  gathered_.push_back({whole_, counter_.extract(whole_->resolution, counted_)});
  whole_ = nullptr, counted_ = {}, elements_ = 0;
}

void join(std::vector<std::vector<Gathered>>& gathered) {
  for (std::vector<Gathered>& of_thread : gathered) {
    for (Gathered& one : of_thread) {
      if (one.whole->bins.empty()) {
        one.whole->bins.swap(one.part.bins);
        one.whole->counts.swap(one.part.counts);
      } else {
        merge(*one.whole, one.part);
      }
    }
  }
}

}  // namespace tensometer
