// Inference and apply: nothing is reduced; coefficients from given statistics; apply.
#include "ops/forward.hpp"
#include "ops/statistics.hpp"

namespace bnorm::ops {
namespace {

// statistics(first, count, mean, inv_std) writes those of channels [first, first + count).
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
        for_channels(range.count, [&](std::int64_t index, std::int64_t count) {
            double mean[kChannelsAtOnce];
            double inv_std[kChannelsAtOnce];
            statistics_(range.first + index, count, mean, inv_std);
            set_coefficients(range, index, count, mean, inv_std);
        });
    }

  private:
    const Statistics& statistics_;
};

} // namespace

void inference(const Execution& execution, const bnorm_inference_args& args) {
    const auto statistics = [&](std::int64_t first, std::int64_t count, double* mean, double* inv_std) {
        running_statistics(execution.passes.kernels, args.running_mean, args.running_var, execution.problem.epsilon,
                           first, count, mean, inv_std);
    };
    execution.passes.run(
        GivenStatistics(execution, {args.x, args.residual, args.gamma, args.beta, args.y, args.mask}, statistics));
}

void apply(const Execution& execution, const bnorm_apply_args& args) {
    const auto statistics = [&](std::int64_t first, std::int64_t count, double* mean, double* inv_std) {
        std::copy_n(args.mean + first, count, mean);
        std::copy_n(args.inv_std + first, count, inv_std);
    };
    execution.passes.run(
        GivenStatistics(execution, {args.x, args.residual, args.gamma, args.beta, args.y, args.mask}, statistics));
}

} // namespace bnorm::ops
