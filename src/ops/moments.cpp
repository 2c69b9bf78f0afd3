#include "ops/moments.hpp"

#include <algorithm>

#include "ops/statistics.hpp"

namespace bnorm::ops {
namespace {

class MomentsOperation final : public Operation {
  public:
    MomentsOperation(const Execution& execution, const bnorm_moments_args& args) : execution_(execution), args_(args) {}

    Inputs inputs() const override { return {args_.x, nullptr}; }
    int reductions() const override { return 1; }
    SumKind sum_kind(int) const override { return SumKind::moments; }
    bool applies() const override { return false; }
    int coefficients() const override { return 0; }
    void begin(const ChannelRange&) const override {}

    void reduce(int, Pattern pattern, const plan::Block& block, const Coefficients&, double* mean,
                double* m2) const override {
        reduce_moments(execution_.passes, args_.x, pattern, block, mean, m2);
    }

    void finish(int reduction, const ChannelRange& range) const override {
        const auto& sums = range.sums[static_cast<std::size_t>(reduction)];
        std::copy_n(sums[0], range.count, args_.mean + range.first);
        std::copy_n(sums[1], range.count, args_.m2 + range.first);
    }

    void apply(Pattern, const plan::Block&, const Coefficients&, std::int64_t) const override {}

  private:
    const Execution& execution_;
    const bnorm_moments_args& args_;
};

float update_running(float running, double batch, const RunningWeights& weights) {
    return static_cast<float>(weights.old_weight * static_cast<double>(running) + weights.new_weight * batch);
}

} // namespace

void moments(const Execution& execution, const bnorm_moments_args& args) {
    execution.passes.run(MomentsOperation(execution, args));
    *args.count = static_cast<double>(execution.passes.geometry.elements_per_channel);
}

void moments_merge(const bnorm_moments_merge_args& args) {
    for (std::int64_t c = 0; c < args.channels; ++c) {
        const Sums merged =
            merge_moments({args.count_a, args.mean_a[c], args.m2_a[c]}, {args.count_b, args.mean_b[c], args.m2_b[c]});
        args.mean[c] = merged.first;
        args.m2[c] = merged.second;
    }
    *args.count = args.count_a + args.count_b;
}

void moments_finish(const bnorm_moments_finish_args& args) {
    const RunningWeights weights = running_weights(args.running_update, args.momentum, args.batches_seen);
    for (std::int64_t c = 0; c < args.channels; ++c) {
        const double m2 = args.m2[c]; // before variance or inv_std, which may be the same array
        if (args.running_mean != nullptr) {
            args.running_mean[c] = update_running(args.running_mean[c], args.mean[c], weights);
        }
        if (args.running_var != nullptr) {
            args.running_var[c] =
                update_running(args.running_var[c], m2 * running_variance_share(args.count, weights), weights);
        }
        if (args.variance != nullptr) {
            args.variance[c] = population_variance(m2, args.count);
        }
        if (args.inv_std != nullptr) {
            args.inv_std[c] = inverse_std(population_variance(m2, args.count), args.epsilon);
        }
    }
}

} // namespace bnorm::ops
