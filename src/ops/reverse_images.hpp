// Tasks of kernels, turned around: they take images from the last to the first.
#ifndef BNORM_OPS_REVERSE_IMAGES_HPP
#define BNORM_OPS_REVERSE_IMAGES_HPP

#include <cstdint>

#include "kernels/kernel_table.hpp"

namespace bnorm::ops {

// An absent tensor has no stride.
template <class T>
void reverse(T*& first, std::int64_t& stride, std::int64_t images) {
    first += stride * (images - 1);
    stride = -stride;
}

inline void reverse_images(kernels::Apply& task, std::int64_t images) {
    reverse(task.x, task.x_stride, images);
    reverse(task.residual, task.residual_stride, images);
    reverse(task.y, task.y_stride, images);
    reverse(task.mask, task.mask_stride, images);
}

inline void reverse_images(kernels::GradientApply& task, std::int64_t images) {
    reverse(task.dy, task.dy_stride, images);
    reverse(task.x, task.x_stride, images);
    reverse(task.mask, task.mask_stride, images);
    reverse(task.dx, task.dx_stride, images);
    reverse(task.dresidual, task.dresidual_stride, images);
}

} // namespace bnorm::ops

#endif
