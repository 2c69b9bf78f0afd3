// Fetches rows that a reduction will come to, in the order in which they lie in memory.
//
// Sums over columns read eight rows at a time and one vector of each, an order that hardware does not follow, and a
// prefetch of the very lines that come next asks for them in that order, too. Fetched in the order of memory, into L2
// and 32 KiB ahead, they come up to 1.8 times as fast.
#ifndef BNORM_KERNELS_ROWS_AHEAD_INL
#define BNORM_KERNELS_ROWS_AHEAD_INL

#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"

namespace bnorm::kernels {
namespace {

// A few pages, so that hardware follows into each before it is needed, and little beside L2.
struct IntoL2 {
    static constexpr std::int64_t kElements = 8192;
    BNORM_MEMBER static void fetch(const float* address) { prefetch_into_l2<2>(address); }
};

template <std::int64_t kAhead>
struct IntoL1 {
    static constexpr std::int64_t kElements = kAhead;
    BNORM_MEMBER static void fetch(const float* address) { prefetch(address); }
};

struct Nowhere {
    static constexpr std::int64_t kElements = 0;
};

// Rows multiples of a page (1024 elements) apart share the sets of L1 that a few of them fill: down the rows, a panel
// of columns would drive out what hardware fetches ahead of it.
constexpr bool shares_sets(std::int64_t stride) { return stride % 1024 == 0; }

struct NothingAhead {
    BNORM_MEMBER void fetch() {}
};

template <class Into>
class RowsAhead {
  public:
    // Columns: the rows go on and on.
    RowsAhead(const float* row, std::int64_t stride, std::int64_t columns)
        : columns_(columns), stride_(stride), rows_(0), left_(0) {
        end_ = row + (Into::kElements + columns - 1) / columns * stride + columns;
        next_ = end_ - columns;
    }

    // Planes: `block` is the first element of a block.
    RowsAhead(const float* block, std::int64_t stride, const Course& course)
        : columns_(course.columns), stride_(stride), rows_(course.planes) {
        const std::int64_t channel = course.planes * course.columns;
        const std::int64_t ahead = course.start + Into::kElements;
        const std::int64_t within = ahead % channel;
        const std::int64_t plane = within / columns_;
        const float* first = block - course.start / columns_ * stride - course.start % columns_;
        end_ = first + ahead / channel * columns_ + plane * stride + columns_;
        next_ = end_ - columns_ + within % columns_;
        left_ = rows_ - plane;
    }

    // One more vector.
    BNORM_MEMBER void fetch() {
        Into::fetch(next_);
        next_ += kWidth;
        if (next_ >= end_) {
            turn();
        }
    }

  private:
    BNORM_MEMBER void turn() {
        end_ += stride_;
        if (--left_ == 0) {
            end_ += columns_ - rows_ * stride_;
            left_ = rows_;
        }
        next_ = end_ - columns_;
    }

    const float* next_;
    const float* end_; // of the row that next_ is in
    std::int64_t columns_;
    std::int64_t stride_;
    std::int64_t rows_;
    std::int64_t left_; // rows of the channel; columns: never 0 again
};

} // namespace
} // namespace bnorm::kernels

#endif
