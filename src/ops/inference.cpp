// Inference and apply: nothing is reduced; coefficients from given statistics; apply.
#include "ops/forward.hpp"
#include "ops/statistics.hpp"

namespace bnorm::ops {
namespace {

// `statistics(channel)` gives mean and inv_std.
template <class Statistics>
class GivenStatistics final : public Forward {
  public:
    GivenStatistics(const Execution& execution, const ForwardTensors& tensors, const Statistics& statistics)
        : Forward(execution, tensors), statistics_(statistics) {}

    int reductions() const override { return 0; }
    SumKind sum_kind(int) const override { return SumKind::moments; }
    void reduce(int, Pattern, const plan::Block&, const Coefficients&, double*, double*) const override {}
    void finish(int, const ChannelRange&) const override {}

    void begin(const ChannelRange& range) const override {
        for (std::int64_t i = 0; i < range.count; ++i) {
            const auto [mean, inv_std] = statistics_(range.first + i);
            set_coefficients(range, i, mean, inv_std);
        }
    }

  private:
    const Statistics& statistics_;
};

struct MeanAndInvStd {
    double mean;
    double inv_std;
};

} // namespace

void inference(const Execution& execution, const bnorm_inference_args& args) {
    const auto statistics = [&](std::int64_t channel) {
        const double variance = static_cast<double>(value_or(args.running_var, channel, 1.0F));
        return MeanAndInvStd{static_cast<double>(value_or(args.running_mean, channel, 0.0F)),
                             inverse_std(variance, execution.problem.epsilon)};
    };
    execution.passes.run(
        GivenStatistics(execution, {args.x, args.residual, args.gamma, args.beta, args.y, args.mask}, statistics));
}

void apply(const Execution& execution, const bnorm_apply_args& args) {
    const auto statistics = [&](std::int64_t channel) {
        return MeanAndInvStd{args.mean[channel], args.inv_std[channel]};
    };
    execution.passes.run(
        GivenStatistics(execution, {args.x, args.residual, args.gamma, args.beta, args.y, args.mask}, statistics));
}

} // namespace bnorm::ops
