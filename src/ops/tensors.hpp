// From blocks of the matrix to the addresses that kernels take.
#ifndef BNORM_OPS_TENSORS_HPP
#define BNORM_OPS_TENSORS_HPP

#include <cstdint>

#include "bnorm/bnorm.h"
#include "kernels/kernel_table.hpp"
#include "ops/operation.hpp"
#include "ops/passes.hpp"

namespace bnorm::ops {

// A plan's constants, as its executions see them.
struct Execution {
    const bnorm_problem& problem;
    Passes& passes;
};

// An absent tensor stays absent.
template <class T>
T* block_address(T* data, std::int64_t stride, const plan::Block& block) {
    return data == nullptr ? nullptr : data + block.row * stride + block.column;
}

struct MaskAddress {
    std::int64_t byte;
    std::int64_t bit;
};

inline MaskAddress mask_address(const plan::Geometry& geometry, const plan::Block& block) {
    const std::int64_t bit = geometry.mask_bit(block.column);
    return {block.row * geometry.mask_row_bytes + bit / 8, bit % 8};
}

// Whether planes of several channels can be applied as one run: where there is a mask, its bits must follow each other,
// too.
inline bool run_of_planes(const plan::Geometry& geometry, const void* mask) {
    return mask == nullptr || geometry.joined_planes || geometry.columns_per_channel % plan::kLanes == 0;
}

// Whether an output may be stored past the cache: not if it is one of the inputs, which are in cache, and only in whole
// lines. A kernel of planes finds the first whole line of each row by itself, unless it writes a mask or a second
// output along.
inline bool can_stream(const plan::Schedule& schedule, Pattern pattern, const float* output, std::int64_t stride,
                       bool alone) {
    if (!schedule.stream) {
        return false;
    }
    const bool aligned = reinterpret_cast<std::uintptr_t>(output) % 64 == 0 && stride % 16 == 0;
    return aligned || (pattern != Pattern::periodic && alone && reinterpret_cast<std::uintptr_t>(output) % 4 == 0);
}

// How many channels a block of planes is of.
inline std::int64_t channels_of(const plan::Geometry& geometry, Pattern pattern, const plan::Block& block) {
    return pattern == Pattern::planes ? block.columns / geometry.columns_per_channel : 1;
}

// Where the planes of a block's channel lie, if they come from memory.
inline kernels::Course course_of(const Passes& passes, const plan::Block& block) {
    if (!passes.from_memory()) {
        return {};
    }
    const std::int64_t columns = passes.geometry.columns_per_channel;
    return {passes.geometry.rows, columns, block.row * columns + block.column % columns, passes.schedule.into_l1};
}

// Mean and M2 of a block of planes.
inline kernels::PlaneMoments moments_task(const Passes& passes, const void* x, Pattern pattern,
                                          const plan::Block& block, double* mean, double* m2) {
    const std::int64_t stride = passes.geometry.x_stride;
    const plan::BlockGrid& grid = passes.geometry.grid;
    const std::int64_t channels = channels_of(passes.geometry, pattern, block);
    return {block_address(static_cast<const float*>(x), stride, block),
            block.rows,
            stride,
            block.columns / channels,
            grid.rows_per_block,
            grid.columns_per_block,
            channels,
            course_of(passes, block),
            mean,
            m2};
}

// Mean and M2 of a block.
inline void reduce_moments(const Passes& passes, const void* x, Pattern pattern, const plan::Block& block, double* mean,
                           double* m2) {
    if (pattern != Pattern::periodic) {
        passes.kernels.moments_uniform(moments_task(passes, x, pattern, block, mean, m2));
        return;
    }
    const std::int64_t stride = passes.geometry.x_stride;
    passes.kernels.moments_periodic(block_address(static_cast<const float*>(x), stride, block), block.rows, stride,
                                    block.columns, passes.geometry.grid.rows_per_run, passes.read_rows(), mean, m2);
}

} // namespace bnorm::ops

#endif
