#include "plan/scratch.hpp"

#include "plan/integers.hpp"

namespace bnorm::plan {
namespace {

// What columns may need for each channel beyond kScratchPerThread. Without it tensors of many channels would be taken
// by ranges of channels, whose outputs lie side by side: with two threads half as fast. One thread, too, is faster with
// whole rows, unless they are few, or so long that their parameters fill L1; gradients of those, too, where outputs are
// stored past L2.
constexpr std::int64_t kMoreScratchPerChannel = 48;
constexpr std::int64_t kManyRows = 256;
constexpr std::int64_t kMaxWholeRow = 2048;
constexpr std::int64_t kMaxWholeRowOfGradients = 1792;

// Hands out offsets, each at a cache line.
class Bump {
  public:
    std::int64_t take(std::int64_t count, std::int64_t size) {
        const std::int64_t offset = bytes_;
        bytes_ = round_up(bytes_ + count * size, kCacheLine);
        return offset;
    }
    std::int64_t bytes() const { return bytes_; }

  private:
    std::int64_t bytes_ = 0;
};

// Whether parameters are spelled out for each column.
bool expands(const Geometry& geometry) {
    return geometry.kind == MatrixKind::columns && geometry.columns_per_channel > 1;
}

} // namespace

std::int64_t scratch_limit(const Geometry& geometry, int threads) {
    return geometry.elements() * kElementBytes / 100 + kScratchPerThread * threads;
}

std::int64_t scratch_limit_of_columns(const Geometry& geometry, const Workload& workload, const Machine& machine,
                                      int threads) {
    const std::int64_t longest = workload.cached_tensors > 1 ? kMaxWholeRowOfGradients : kMaxWholeRow;
    const bool any_length = workload.cached_tensors > 1 && machine.past_l2;
    const bool more = threads > 1 || (geometry.rows >= kManyRows && (any_length || geometry.row_length <= longest));
    return scratch_limit(geometry, threads) + (more ? kMoreScratchPerChannel * geometry.channels : 0);
}

RangeScratch make_range(const Geometry& geometry, const Workload& workload, Strategy strategy, std::int64_t channels) {
    RangeScratch range;
    Bump bump;
    const bool columns = geometry.kind == MatrixKind::columns;
    const std::int64_t all_columns = channels * geometry.columns_per_channel;
    for (int i = 0; i < workload.reductions; ++i) {
        for (std::int64_t& offset : range.sums[static_cast<std::size_t>(i)]) {
            offset = bump.take(padded(channels), sizeof(double));
        }
    }
    for (int i = 0; i < workload.coefficients; ++i) {
        const auto index = static_cast<std::size_t>(i);
        range.coefficients[index] = range.column_coefficients[index] = bump.take(padded(channels), sizeof(float));
        if (expands(geometry)) {
            range.column_coefficients[index] = bump.take(padded(all_columns), sizeof(float));
        }
    }
    range.inv_std = bump.take(workload.keeps_inv_std ? padded(channels) : 0, sizeof(double));
    if (columns && workload.reductions > 0) {
        for (std::int64_t& offset : range.column_sums) {
            offset = bump.take(strategy == Strategy::by_channels ? padded(all_columns) : 0, sizeof(double));
        }
        for (std::int64_t& offset : range.tail_sums) {
            offset = bump.take(padded_columns(geometry, geometry.tail_columns), sizeof(double));
        }
    }
    range.bytes = bump.bytes();
    return range;
}

} // namespace bnorm::plan
