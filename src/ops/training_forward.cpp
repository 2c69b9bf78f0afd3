// Training forward: moments of x; finish: statistics, running statistics, coefficients; apply.
#include <algorithm>

#include "ops/forward.hpp"
#include "ops/reduction_tree.hpp"
#include "ops/reverse_images.hpp"
#include "ops/skip_channels.hpp"
#include "ops/statistics.hpp"

namespace bnorm::ops {
namespace {

class TrainingForward final : public Forward {
  public:
    TrainingForward(const Execution& execution, const bnorm_training_forward_args& args)
        : Forward(execution, {args.x, args.residual, args.gamma, args.beta, args.y, args.mask}), args_(args),
          weights_(running_weights(args.running_update, args.momentum, args.batches_seen)) {}

    int reductions() const override { return 1; }
    SumKind sum_kind(int) const override { return SumKind::moments; }
    void begin(const ChannelRange&) const override {}

    void reduce(int, Pattern pattern, const plan::Block& block, const Coefficients&, double* mean,
                double* m2) const override {
        reduce_moments(execution_.passes, args_.x, pattern, block, mean, m2);
    }

    void finish(int, const ChannelRange& range) const override {
        for_channels(range.count,
                     [&](std::int64_t index, std::int64_t count) { set_from_moments(range, index, count); });
        write_statistics(range);
    }

    bool runs_in_l1() const override { return takes_planes(); }

    void run_in_l1(const ChannelRange& range, std::int64_t channels) const override {
        const std::int64_t width = execution_.passes.geometry.columns_per_channel;
        const plan::Block planes = {0, 1, range.first * width, range.count * width};
        kernels::PlaneMoments moments =
            moments_task(execution_.passes, args_.x, Pattern::planes, planes, range.sums[0][0], range.sums[0][1]);
        kernels::Apply outputs = apply_task(Pattern::planes, planes, range.coefficients);
        const auto apply = execution_.passes.kernels.apply_planes[apply_variant(Pattern::planes, outputs)];
        for (std::int64_t index = 0; index < range.count; index += channels) {
            const std::int64_t count = std::min(channels, range.count - index);
            moments.channels = outputs.rows = count;
            execution_.passes.kernels.moments_uniform(moments);
            set_from_moments(range, index, count);
            apply(outputs);
            skip_channels(moments, count);
            skip_channels(outputs, count, execution_.passes.geometry.mask_bit(width));
        }
        write_statistics(range);
    }

    bool runs_beside() const override {
        const plan::Schedule& schedule = execution_.passes.schedule;
        const bool whole_lines = can_stream(schedule, Pattern::planes, static_cast<const float*>(args_.y),
                                            execution_.passes.geometry.y_stride, false);
        return whole_lines && takes_planes() && !is_input(args_.y) &&
               kernels::has_moments_beside(activation(), args_.mask != nullptr);
    }

    void run_beside(const ChannelRange& range) const override {
        const plan::Geometry& geometry = execution_.passes.geometry;
        const kernels::KernelTable& kernels = execution_.passes.kernels;
        const auto moments_beside = kernels.moments_beside[kernels::moments_beside_variant(
            activation(), args_.residual != nullptr, args_.mask != nullptr)];
        const std::int64_t unit = execution_.passes.schedule.unit_beside;
        const auto block = [&](std::int64_t index) {
            const std::int64_t width = geometry.columns_per_channel;
            return plan::Block{0, geometry.rows, (range.first + index) * width, unit * width};
        };
        // Of several images, what hardware fetches along a plane is the next channel's.
        const bool from_end = execution_.passes.from_end && geometry.rows == 1;
        std::int64_t before = 0;
        for (std::int64_t done = 0; done < range.count; done += unit) {
            const std::int64_t index = from_end ? range.count - unit - done : done;
            double mean[plan::kMostBlocksBeside];
            double m2[plan::kMostBlocksBeside];
            const kernels::PlaneMoments moments =
                moments_task(execution_.passes, args_.x, Pattern::planes, block(index), mean, m2);
            if (done == 0) {
                kernels.moments_uniform(moments);
            } else {
                kernels::Apply outputs =
                    apply_task(Pattern::planes, block(before), advance(range.coefficients, before));
                if (execution_.passes.schedule.last_image_first) {
                    reverse_images(outputs, geometry.rows);
                }
                moments_beside(moments, outputs);
            }
            merge_channels(SumKind::moments, geometry.grid, unit, mean, m2,
                           {range.sums[0][0] + index, range.sums[0][1] + index});
            set_from_moments(range, index, unit);
            before = index;
        }
        const plan::Block last = block(before);
        for (std::int64_t row = 0; row < geometry.rows; ++row) {
            apply(Pattern::planes, {row, 1, last.column, last.columns}, advance(range.coefficients, before), 0);
        }
        write_statistics(range);
    }

  private:
    kernels::Activation activation() const { return static_cast<kernels::Activation>(execution_.problem.activation); }

    // Statistics that apply needs, and its coefficients.
    void set_from_moments(const ChannelRange& range, std::int64_t index, std::int64_t count) const {
        const double samples = static_cast<double>(execution_.passes.geometry.elements_per_channel);
        const double* mean = range.sums[0][0] + index;
        double buffer[kChannelsAtOnce] = {};
        double* inv_std = args_.inv_std == nullptr ? buffer : args_.inv_std + range.first + index;
        inverse_std(execution_.passes.kernels, range.sums[0][1] + index, samples, execution_.problem.epsilon, count,
                    inv_std);
        set_coefficients(range, index, count, mean, inv_std);
    }

    void write_statistics(const ChannelRange& range) const {
        const double samples = static_cast<double>(execution_.passes.geometry.elements_per_channel);
        const auto& kernels = execution_.passes.kernels;
        const auto& [mean, m2] = range.sums[0];
        if (args_.mean != nullptr) {
            std::copy_n(mean, range.count, args_.mean + range.first);
        }
        if (args_.running_mean != nullptr) {
            update_running_mean(kernels, mean, range.count, weights_, args_.running_mean + range.first);
        }
        if (args_.running_var != nullptr) {
            update_running_var(kernels, m2, samples, range.count, weights_, args_.running_var + range.first);
        }
    }

    const bnorm_training_forward_args& args_;
    const RunningWeights weights_;
};

} // namespace

void training_forward(const Execution& execution, const bnorm_training_forward_args& args) {
    execution.passes.run(TrainingForward(execution, args));
}

} // namespace bnorm::ops
