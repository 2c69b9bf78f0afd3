// Tasks of kernels, taken on along the planes of one image: made once for many channels, of which each call takes a
// few.
#ifndef BNORM_OPS_SKIP_CHANNELS_HPP
#define BNORM_OPS_SKIP_CHANNELS_HPP

#include <cstdint>

#include "kernels/kernel_table.hpp"

namespace bnorm::ops {

template <class T>
void skip(T*& array, std::int64_t count) {
    array = array == nullptr ? nullptr : array + count;
}

// `channels` take whole bytes of the mask, which has `channel_bits` of each.

inline void skip_channels(kernels::PlaneMoments& task, std::int64_t channels) {
    task.x += channels * task.columns;
    task.mean += channels;
    task.m2 += channels;
}

inline void skip_channels(kernels::Apply& task, std::int64_t channels, std::int64_t channel_bits) {
    task.x += channels * task.columns;
    task.y += channels * task.columns;
    skip(task.residual, channels * task.columns);
    skip(task.mask, channels * channel_bits / 8);
    task.center += channels;
    task.scale += channels;
    task.shift += channels;
}

inline void skip_channels(kernels::GradientSums& task, std::int64_t channels) {
    task.dy += channels * task.columns;
    task.x += channels * task.columns;
    skip(task.mask, channels * task.channel_bits / 8);
    task.center += channels;
    task.scale += channels;
    task.shift += channels;
    task.sum_dy += channels;
    task.sum_dy_centered_x += channels;
}

inline void skip_channels(kernels::GradientApply& task, std::int64_t channels, std::int64_t channel_bits) {
    task.dy += channels * task.columns;
    skip(task.x, channels * task.columns);
    skip(task.mask, channels * channel_bits / 8);
    task.dx += channels * task.columns;
    skip(task.dresidual, channels * task.columns);
    task.center += channels;
    task.scale += channels;
    task.shift += channels;
    task.x_scale += channels;
    task.offset += channels;
}

} // namespace bnorm::ops

#endif
