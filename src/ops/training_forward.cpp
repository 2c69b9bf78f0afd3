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

    int reductions() const override { return 1; }
    SumKind sum_kind(int) const override { return SumKind::moments; }
    void begin(const ChannelRange&) const override {}

    void reduce(int, Pattern pattern, const plan::Block& block, const Coefficients&, double* mean,
                double* m2) const override {
        reduce_moments(execution_.passes, args_.x, pattern, block, mean, m2);
    }

    void finish(int reduction, const ChannelRange& range) const override {
        const auto& sums = range.sums[static_cast<std::size_t>(reduction)];
        for (std::int64_t i = 0; i < range.count; ++i) {
            finish_channel(range, i, sums[0][i], sums[1][i]);
        }
    }

  private:
    void finish_channel(const ChannelRange& range, std::int64_t index, double mean, double m2) const {
        const std::int64_t channel = range.first + index;
        const double count = static_cast<double>(execution_.passes.geometry.elements_per_channel);
        const double inv_std = inverse_std(m2 / count, execution_.problem.epsilon);
        set_coefficients(range, index, mean, inv_std);
        if (args_.mean != nullptr) {
            args_.mean[channel] = mean;
        }
        if (args_.inv_std != nullptr) {
            args_.inv_std[channel] = inv_std;
        }
        if (args_.running_mean != nullptr) {
            args_.running_mean[channel] = update_running(args_.running_mean[channel], mean, weights_);
        }
        if (args_.running_var != nullptr) {
            const double variance = running_batch_variance(m2, count, weights_);
            args_.running_var[channel] = update_running(args_.running_var[channel], variance, weights_);
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
