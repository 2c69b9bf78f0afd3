// The steps that both strategies of passes.cpp are made of, each for a range of channels or a piece of it.
#ifndef BNORM_OPS_STEPS_HPP
#define BNORM_OPS_STEPS_HPP

#include "ops/passes.hpp"
#include "ops/range_scratch.hpp"
#include "ops/reduction_tree.hpp"

namespace bnorm::ops {

class Steps {
  public:
    Steps(const Passes& passes, const Operation& operation) : passes_(passes), operation_(operation) {}

    // The sums of blocks [first_block, first_block + blocks) of a channel of planes.
    Sums reduce_channel(int reduction, std::int64_t channel, const Coefficients& coefficients, std::int64_t first_block,
                        std::int64_t blocks) const;

    // All blocks of each of some channels; `coefficients` starts at the first of them.
    void reduce_channels(int reduction, std::int64_t channel, std::int64_t channels, const Coefficients& coefficients,
                         const ColumnSums& result) const;

    // Likewise of columns [column, column + columns), for each column (periodic) or for each channel, whose whole
    // planes they are (planes); `coefficients` starts at the first of them.
    void reduce_columns(int reduction, Pattern pattern, std::int64_t column, std::int64_t columns,
                        const Coefficients& coefficients, std::int64_t first_block, std::int64_t blocks,
                        const ColumnSums& result, double* levels) const;

    // Merges the sums of all columns of each channel, and of the tail, into the range's sums of this reduction.
    void fold_columns(int reduction, const RangeScratch& scratch, const ColumnSums& columns) const;

    void begin(const RangeScratch& scratch) const;
    void finish(int reduction, const RangeScratch& scratch) const;

    // Applies rows [row, row + rows) to all channels of the range, the last first.
    void apply_rows(const RangeScratch& scratch, std::int64_t row, std::int64_t rows) const;
    // Likewise all rows in pieces of schedule.apply_rows and schedule.apply_columns, in the order of the passes; and
    // the tail.
    void apply(const RangeScratch& scratch) const;
    void apply_tail(const RangeScratch& scratch) const;
    // Channels [channel, channel + channels) of one image of planes.
    void apply_image(const RangeScratch& scratch, std::int64_t row, std::int64_t channel, std::int64_t channels) const;
    // One channel of long planes: columns of the plane.
    void apply_plane_rows(const RangeScratch& scratch, std::int64_t channel, const plan::Block& block) const;

  private:
    // Whether kernels sum these blocks of a channel in one call.
    bool can_sum_at_once(std::int64_t first_block, std::int64_t blocks) const;
    // How far ahead an elementwise pass fetches: from an element to the same one of the range that the same thread
    // takes next, or, in the order of memory, what the plan says; 0: not.
    std::int64_t ahead(const RangeScratch& scratch) const;
    void expand(const RangeScratch& scratch) const;
    void fold_interleaved(SumKind kind, const ChannelRange& range, const ColumnSums& result,
                          const ColumnSums& columns) const;
    void merge_tail(int reduction, const RangeScratch& scratch, const ColumnSums& result) const;

    const Passes& passes_;
    const Operation& operation_;
};

} // namespace bnorm::ops

#endif
