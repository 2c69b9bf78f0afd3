// Fetches rows that a reduction will come to, in the order in which they lie in memory.
//
// Sums over columns read eight rows at a time and one vector of each, an order that hardware does not follow, and a
// prefetch of the very lines that come next asks for them in that order, too. Fetched in the order of memory, into L2 and
// this far ahead, they come up to 1.8 times as fast.
#ifndef BNORM_KERNELS_ROWS_AHEAD_INL
#define BNORM_KERNELS_ROWS_AHEAD_INL

#include "kernels/simd.hpp"

namespace bnorm::kernels {
namespace {

// 32 KiB: a few pages, so that hardware follows into each before it is needed, and little beside L2.
constexpr std::int64_t kElementsAhead = 8192;

class RowsAhead {
  public:
    RowsAhead(const float* row, std::int64_t stride, std::int64_t columns) : columns_(columns), stride_(stride) {
        next_ = row + (kElementsAhead + columns - 1) / columns * stride;
        end_ = next_ + columns;
    }

    // One more vector.
    BNORM_MEMBER void fetch() {
        prefetch_into_l2(next_);
        next_ += kWidth;
        if (next_ >= end_) {
            end_ += stride_;
            next_ = end_ - columns_;
        }
    }

  private:
    const float* next_;
    const float* end_; // of the row that next_ is in
    std::int64_t columns_;
    std::int64_t stride_;
};

} // namespace
} // namespace bnorm::kernels

#endif
