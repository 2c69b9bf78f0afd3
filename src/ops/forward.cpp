#include "ops/forward.hpp"

#include "ops/affine.hpp"

namespace bnorm::ops {

void Forward::set_coefficients(const ChannelRange& range, std::int64_t index, std::int64_t count, const double* mean,
                               const double* inv_std) const {
    set_affine(execution_.passes.kernels, range, index, count, tensors_.gamma, tensors_.beta, mean, inv_std);
}

kernels::Apply Forward::apply_task(Pattern pattern, const plan::Block& block, const Coefficients& coefficients) const {
    const plan::Geometry& geometry = execution_.passes.geometry;
    const MaskAddress mask = mask_address(geometry, block);
    kernels::Apply task{};
    task.x = block_address(static_cast<const float*>(tensors_.x), geometry.x_stride, block);
    task.residual = block_address(static_cast<const float*>(tensors_.residual), geometry.residual_stride, block);
    task.y = block_address(static_cast<float*>(tensors_.y), geometry.y_stride, block);
    task.mask = tensors_.mask == nullptr ? nullptr : static_cast<std::uint8_t*>(tensors_.mask) + mask.byte;
    const bool planes = pattern == Pattern::planes;
    task.rows = planes ? block.columns / geometry.columns_per_channel : block.rows;
    task.columns = planes ? geometry.columns_per_channel : block.columns;
    task.x_stride = geometry.x_stride;
    task.residual_stride = task.residual == nullptr ? 0 : geometry.residual_stride;
    task.y_stride = geometry.y_stride;
    task.mask_stride = task.mask == nullptr ? 0 : geometry.mask_row_bytes;
    task.center = coefficients[kCenter];
    task.scale = coefficients[kScale];
    task.shift = coefficients[kShift];
    task.ask_again = execution_.passes.schedule.ask_again;
    task.inputs_into_l1 = execution_.passes.schedule.inputs_into_l1;
    task.activation_parameter = execution_.problem.activation_parameter;
    task.fetch_rows = execution_.passes.cold && execution_.passes.schedule.fetches_cold_rows &&
                      tensors_.y != tensors_.x && task.y_stride == task.columns;
    task.y_ahead = execution_.passes.output_ahead(pattern, task.columns, task.y_stride);
    return task;
}

bool Forward::is_input(const void* output) const { return output == tensors_.x || output == tensors_.residual; }

int Forward::apply_variant(Pattern pattern, const kernels::Apply& task) const {
    const bool stream = !is_input(tensors_.y) &&
                        can_stream(execution_.passes.schedule, pattern, task.y, task.y_stride, task.mask == nullptr);
    return kernels::apply_variant(static_cast<kernels::Activation>(execution_.problem.activation),
                                  task.residual != nullptr, task.mask != nullptr, stream);
}

void Forward::apply(Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
                    std::int64_t ahead) const {
    kernels::Apply task = apply_task(pattern, block, coefficients);
    task.ahead = ahead;
    // The next image's, which is read for the first time: a uniform kernel goes on to it itself; planes are taken image
    // by image, the last first, or in the order of memory.
    const bool planes = pattern == Pattern::planes;
    const bool in_order = execution_.passes.schedule.ahead_in_order != 0;
    task.next_row = in_order ? ahead : planes ? -task.residual_stride : task.residual_stride;
    task.fetch_residual = ahead == 0 && execution_.passes.schedule.fetches_residual;
    const kernels::KernelTable& kernels = execution_.passes.kernels;
    const auto* table = planes                        ? kernels.apply_planes
                        : pattern == Pattern::uniform ? kernels.apply_uniform
                                                      : kernels.apply_periodic;
    table[apply_variant(pattern, task)](task);
}

} // namespace bnorm::ops
