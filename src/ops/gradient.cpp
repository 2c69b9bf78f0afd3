#include <algorithm>

#include "ops/affine.hpp"
#include "ops/backward.hpp"
#include "ops/reduction_tree.hpp"
#include "ops/reverse_images.hpp"
#include "ops/skip_channels.hpp"

namespace bnorm::ops {

kernels::Gate gate_of(bnorm_activation activation, bool mask) {
    using kernels::Gate;
    switch (activation) {
    case BNORM_RELU: return mask ? Gate::mask_drop : Gate::sign_relu;
    case BNORM_LEAKY_RELU: return mask ? Gate::mask_leaky : Gate::sign_leaky_relu;
    case BNORM_CLIPPED_RELU: return mask ? Gate::mask_drop : Gate::sign_clipped_relu;
    default: return Gate::none;
    }
}

void Gradient::set_coefficients(const ChannelRange& range, std::int64_t index, std::int64_t count,
                                const Statistics& statistics) const {
    set_affine(execution_.passes.kernels, range, index, count, tensors_.gamma, tensors_.beta, statistics.mean,
               statistics.inv_std);
    if (tensors_.dx == nullptr && tensors_.dresidual != nullptr) {
        std::fill_n(range.coefficients[kScale] + index, count, 1.0F); // apply only gates
    }
    std::fill_n(range.coefficients[kXScale] + index, count, 0.0F);
    std::fill_n(range.coefficients[kOffset] + index, count, 0.0F);
}

// dx = A*dy' + B*(x-mean) + D with A = gamma*inv_std, B = -A*inv_std^2*sum(dy'*(x-mean))/m, D = -A*sum(dy')/m
// (Ioffe and Szegedy 2015, section 3). The kernel subtracts only the center from x: the rest goes into the offset.
void Gradient::set_batch_coefficients(const ChannelRange& range, std::int64_t index, std::int64_t count,
                                      const Statistics& statistics, double samples,
                                      const kernels::ChannelGradients& sums) const {
    const ValuesOr gammas(tensors_.gamma, range.first + index, count, 1.0F);
    execution_.passes.kernels.gradient_affine(
        count, {gammas.data(), nullptr, statistics.mean, statistics.inv_std}, sums, 1.0 / samples,
        {range.coefficients[kXScale] + index, range.coefficients[kOffset] + index});
}

void Gradient::write_parameter_gradients(float* dgamma, float* dbeta, std::int64_t first, std::int64_t count,
                                         const double* inv_std, const kernels::ChannelGradients& sums) const {
    execution_.passes.kernels.parameter_gradients(count, inv_std, sums, dgamma == nullptr ? nullptr : dgamma + first,
                                                  dbeta == nullptr ? nullptr : dbeta + first);
}

static_assert(plan::kMinLongPlane <= kernels::kMaxTogetherColumns);
static_assert(plan::kMostChannelsAtOnce <= kChannelsAtOnce);
static_assert(plan::kMostPlanesBeside == kernels::kMostPlanesBeside);
static_assert(plan::kMaxParameters == kernels::kMaxParameters);

kernels::GradientSums Gradient::sums_task(Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
                                          double* sum_dy, double* sum_dy_centered_x) const {
    const plan::Geometry& geometry = execution_.passes.geometry;
    const MaskAddress mask = mask_address(geometry, block);
    kernels::GradientSums task{};
    task.dy = block_address(static_cast<const float*>(tensors_.dy), geometry.y_stride, block);
    task.dy_stride = geometry.y_stride;
    // Without x only sum_dy is of interest: any readable tensor of the shape will do.
    task.x = tensors_.x == nullptr ? task.dy
                                   : block_address(static_cast<const float*>(tensors_.x), geometry.x_stride, block);
    task.x_stride = tensors_.x == nullptr ? task.dy_stride : geometry.x_stride;
    task.mask = tensors_.mask == nullptr ? nullptr : static_cast<const std::uint8_t*>(tensors_.mask) + mask.byte;
    task.mask_bit = mask.bit;
    task.mask_stride = task.mask == nullptr ? 0 : geometry.mask_row_bytes;
    task.channels = channels_of(geometry, pattern, block);
    task.channel_bits = geometry.mask_bit(geometry.columns_per_channel);
    task.together = geometry.sums_together;
    task.by_images = pattern == Pattern::planes && execution_.passes.sums_by_images();
    task.rows = block.rows;
    task.columns = block.columns / task.channels;
    task.block_rows = geometry.grid.rows_per_block;
    task.block_columns = geometry.grid.columns_per_block;
    task.center = coefficients[kCenter];
    task.scale = coefficients[kScale];
    task.shift = coefficients[kShift];
    task.activation_parameter = execution_.problem.activation_parameter;
    task.prefetch = execution_.passes.from_memory();
    task.ask_often = execution_.passes.schedule.asks_often;
    task.in_order = execution_.passes.sums_in_order();
    if (pattern != Pattern::periodic) {
        task.course = course_of(execution_.passes, block);
    }
    task.sum_dy = sum_dy;
    task.sum_dy_centered_x = sum_dy_centered_x;
    return task;
}

void Gradient::reduce_gradient(Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
                               double* sum_dy, double* sum_dy_centered_x) const {
    const kernels::GradientSums task = sums_task(pattern, block, coefficients, sum_dy, sum_dy_centered_x);
    const kernels::KernelTable& kernels = execution_.passes.kernels;
    const auto* table = pattern == Pattern::periodic ? kernels.gradient_sums_periodic : kernels.gradient_sums_uniform;
    table[static_cast<int>(gate_)](task);
}

void Gradient::run_in_l1(const ChannelRange& range, std::int64_t channels) const {
    const std::int64_t width = execution_.passes.geometry.columns_per_channel;
    const plan::Block planes = {0, 1, range.first * width, range.count * width};
    const kernels::KernelTable& kernels = execution_.passes.kernels;
    kernels::GradientSums sums =
        sums_task(Pattern::planes, planes, range.coefficients, range.sums[0][0], range.sums[0][1]);
    kernels::GradientApply outputs = apply_task(Pattern::planes, planes, range.coefficients);
    const auto sum = kernels.gradient_sums_uniform[static_cast<int>(gate_)];
    const auto apply = kernels.gradient_apply_planes[apply_variant(Pattern::planes, outputs)];
    for (std::int64_t index = 0; index < range.count; index += channels) {
        const std::int64_t count = std::min(channels, range.count - index);
        sums.channels = outputs.rows = count;
        sum(sums);
        set_from_sums(range, index, count);
        apply(outputs);
        skip_channels(sums, count);
        skip_channels(outputs, count, sums.channel_bits);
    }
    write_sums(range);
}

bool Gradient::runs_beside() const {
    const plan::Schedule& schedule = execution_.passes.schedule;
    const plan::Geometry& geometry = execution_.passes.geometry;
    const auto whole_lines = [&](const void* output, std::int64_t stride) {
        return output == nullptr || (!is_input(output) && can_stream(schedule, Pattern::uniform,
                                                                     static_cast<const float*>(output), stride, false));
    };
    // Of what comes from memory unexpectedly slabs are fetched ahead, which is faster with a single output, and of
    // planes that share cache lines. Of the latter no single output waits well for signs.
    const bool alone = tensors_.dresidual == nullptr;
    const bool shared_lines = geometry.unit_channels > 1;
    const bool gains = execution_.passes.cold ? !alone && !shared_lines
                                              : !(alone && shared_lines && gate_ == kernels::Gate::sign_relu);
    return gains && reductions() == 1 && tensors_.dx != nullptr && !fixed_ && kernels::is_fixed_gate(gate_) &&
           whole_lines(tensors_.dx, geometry.x_stride) && whole_lines(tensors_.dresidual, geometry.residual_stride);
}

void Gradient::run_beside(const ChannelRange& range) const {
    const plan::Geometry& geometry = execution_.passes.geometry;
    const kernels::KernelTable& kernels = execution_.passes.kernels;
    const auto sum = kernels.gradient_sums_uniform[static_cast<int>(gate_)];
    const auto sum_beside =
        kernels.gradient_sums_beside[kernels::gradient_beside_variant(gate_, tensors_.dresidual != nullptr)];
    const std::int64_t unit = execution_.passes.schedule.unit_beside;
    const Pattern pattern = unit == 1 ? Pattern::uniform : Pattern::planes;
    const auto block = [&](std::int64_t index) {
        const std::int64_t width = geometry.columns_per_channel;
        return plan::Block{0, geometry.rows, (range.first + index) * width, unit * width};
    };
    const auto coefficients = [&](std::int64_t index) { return advance(range.coefficients, index); };
    for (std::int64_t index = 0; index < range.count; index += unit) {
        double dy[plan::kMostBlocksBeside];
        double products[plan::kMostBlocksBeside];
        kernels::GradientSums sums = sums_task(pattern, block(index), coefficients(index), dy, products);
        sums.by_images = false; // which has no blocks
        if (index == 0) {
            sum(sums);
        } else {
            kernels::GradientApply outputs = apply_task(pattern, block(index - unit), coefficients(index - unit));
            if (execution_.passes.schedule.last_image_first) {
                reverse_images(outputs, geometry.rows);
            }
            sum_beside(sums, outputs);
        }
        merge_channels(SumKind::gradient, geometry.grid, unit, dy, products,
                       {range.sums[0][0] + index, range.sums[0][1] + index});
        set_from_sums(range, index, unit);
    }
    const std::int64_t rows_at_once = unit == 1 ? geometry.rows : 1;
    for (std::int64_t row = 0; row < geometry.rows; row += rows_at_once) {
        const plan::Block last = block(range.count - unit);
        apply(pattern, {row, rows_at_once, last.column, last.columns}, coefficients(range.count - unit), 0);
    }
    write_sums(range);
}

void Gradient::reduce_and_apply(Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
                                double* sum_dy, double* sum_dy_centered_x) const {
    kernels::GradientSums task = sums_task(pattern, block, coefficients, sum_dy, sum_dy_centered_x);
    const std::int64_t stride = execution_.passes.geometry.x_stride;
    task.dx = block_address(static_cast<float*>(tensors_.dx), stride, block);
    task.dx_stride = stride;
    const bool periodic = pattern == Pattern::periodic;
    task.dx_ahead = periodic ? 0 : execution_.passes.output_ahead(pattern, task.columns, stride);
    const Pattern stores = periodic ? pattern : Pattern::uniform;
    const bool stream =
        !is_input(tensors_.dx) && can_stream(execution_.passes.schedule, stores, task.dx, stride, periodic);
    const kernels::KernelTable& kernels = execution_.passes.kernels;
    const auto* table = periodic ? kernels.gradient_fixed_periodic : kernels.gradient_fixed_uniform;
    table[kernels::gradient_fixed_variant(gate_, stream)](task);
}

bool Gradient::is_input(const void* output) const {
    return output != nullptr && (output == tensors_.dy || output == tensors_.x);
}

kernels::GradientApply Gradient::apply_task(Pattern pattern, const plan::Block& block,
                                            const Coefficients& coefficients) const {
    const plan::Geometry& geometry = execution_.passes.geometry;
    kernels::GradientApply task{};
    task.dy = block_address(static_cast<const float*>(tensors_.dy), geometry.y_stride, block);
    task.x = block_address(static_cast<const float*>(tensors_.x), geometry.x_stride, block);
    task.mask = tensors_.mask == nullptr
                    ? nullptr
                    : static_cast<const std::uint8_t*>(tensors_.mask) + mask_address(geometry, block).byte;
    task.dx = block_address(static_cast<float*>(tensors_.dx), geometry.x_stride, block);
    task.dresidual = block_address(static_cast<float*>(tensors_.dresidual), geometry.residual_stride, block);
    const bool planes = pattern == Pattern::planes;
    task.rows = planes ? block.columns / geometry.columns_per_channel : block.rows;
    task.columns = planes ? geometry.columns_per_channel : block.columns;
    task.dy_stride = geometry.y_stride;
    task.x_stride = task.x == nullptr ? 0 : geometry.x_stride;
    task.mask_stride = task.mask == nullptr ? 0 : geometry.mask_row_bytes;
    task.dx_stride = geometry.x_stride;
    task.dresidual_stride = task.dresidual == nullptr ? 0 : geometry.residual_stride;
    task.center = coefficients[kCenter];
    task.scale = coefficients[kScale];
    task.shift = coefficients[kShift];
    task.x_scale = coefficients[kXScale];
    task.offset = coefficients[kOffset];
    task.activation_parameter = execution_.problem.activation_parameter;
    task.prefetch = execution_.passes.schedule.from_memory; // what only was cold, the sums have brought into a cache
    task.ask_again = execution_.passes.schedule.ask_again;
    // What was reduced before, planes still have in L2.
    task.inputs_into_l1 =
        execution_.passes.schedule.inputs_into_l1 && (pattern == Pattern::periodic || reductions() == 0);
    if (task.dx == nullptr) {
        // dresidual alone is the gated dy: set_coefficients has made the scale 1.
        task.dx = task.dresidual;
        task.dx_stride = task.dresidual_stride;
        task.dresidual = nullptr;
        task.dresidual_stride = 0;
    }
    task.dx_ahead = execution_.passes.output_ahead(pattern, task.columns, task.dx_stride);
    if (task.dresidual != nullptr) {
        task.dresidual_ahead = execution_.passes.output_ahead(pattern, task.columns, task.dresidual_stride);
    }
    return task;
}

int Gradient::apply_variant(Pattern pattern, const kernels::GradientApply& task) const {
    const bool both = task.dresidual != nullptr;
    const plan::Schedule& schedule = execution_.passes.schedule;
    const bool in_place = is_input(tensors_.dx) || is_input(tensors_.dresidual);
    const bool stream = !in_place && can_stream(schedule, pattern, task.dx, task.dx_stride, !both) &&
                        (!both || can_stream(schedule, pattern, task.dresidual, task.dresidual_stride, false));
    return kernels::gradient_apply_variant(gate_, fixed_ || tensors_.dx == nullptr, both, stream);
}

void Gradient::apply(Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
                     std::int64_t ahead) const {
    kernels::GradientApply task = apply_task(pattern, block, coefficients);
    task.ahead = ahead;
    const kernels::KernelTable& kernels = execution_.passes.kernels;
    const auto* table = pattern == Pattern::planes    ? kernels.gradient_apply_planes
                        : pattern == Pattern::uniform ? kernels.gradient_apply_uniform
                                                      : kernels.gradient_apply_periodic;
    table[apply_variant(pattern, task)](task);
}

} // namespace bnorm::ops
