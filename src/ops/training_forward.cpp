// Training forward: moments of x; finish: statistics, running statistics, coefficients; apply.
#include "ops/forward.hpp"
#include "ops/statistics.hpp"

namespace bnorm::ops {
namespace {

class TrainingForward final : public Forward {
  public:
    TrainingForward(const Execution& execution, const bnorm_training_forward_args& args)
        : Forward(execution, {args.x, args.residual, args.gamma, args.beta, args.y, args.mask}), args_(args),
          weights_(running_weights(args.running_update, args.momentum, args.batches_seen)) {}

    ReducedTensors reduced() const override { return {args_.x, nullptr}; }
    int reductions() const override { return 1; }
    SumKind sum_kind(int) const override { return SumKind::moments; }
    void begin(const ChannelRange&) const override {}

    void reduce(int, Pattern pattern, const plan::Block& block, const Coefficients&, double* mean,
                double* m2) const override {
        reduce_moments(execution_.passes, args_.x, pattern, block, mean, m2);
    }

    void finish(int reduction, const ChannelRange& range) const override {
        const auto& sums = range.sums[static_cast<std::size_t>(reduction)];
        for_channels(range.count, [&](std::int64_t index, std::int64_t count) {
            finish_channels(range, index, count, sums[0] + index, sums[1] + index);
        });
    }

  private:
    void finish_channels(const ChannelRange& range, std::int64_t index, std::int64_t count, const double* mean,
                         const double* m2) const {
        const double samples = static_cast<double>(execution_.passes.geometry.elements_per_channel);
        const std::int64_t first = range.first + index;
        const auto& kernels = execution_.passes.kernels;
        double inv_std[kChannelsAtOnce] = {};
        inverse_std(kernels, m2, samples, execution_.problem.epsilon, count, inv_std);
        set_coefficients(range, index, count, mean, inv_std);
        if (args_.mean != nullptr) {
            std::copy_n(mean, count, args_.mean + first);
        }
        if (args_.inv_std != nullptr) {
            std::copy_n(inv_std, count, args_.inv_std + first);
        }
        if (args_.running_mean != nullptr) {
            update_running_mean(kernels, mean, count, weights_, args_.running_mean + first);
        }
        if (args_.running_var != nullptr) {
            update_running_var(kernels, m2, samples, count, weights_, args_.running_var + first);
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
