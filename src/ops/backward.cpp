// Backward: (moments of x, if forward's were not kept,) gradient sums; finish: dgamma, dbeta, coefficients; apply.
#include "ops/backward.hpp"

#include "ops/statistics.hpp"

namespace bnorm::ops {
namespace {

// What sum(dy'*(x-center)) is about the mean itself.
double about_mean(double sum_dy, double sum_about_center, double mean) {
    return sum_about_center - (mean - center_of(mean)) * sum_dy;
}

void write_parameter_gradients(float* dgamma, float* dbeta, std::int64_t channel, double inv_std, double sum_dy,
                               double sum_dy_centered_x) {
    if (dgamma != nullptr) {
        dgamma[channel] = static_cast<float>(inv_std * sum_dy_centered_x);
    }
    if (dbeta != nullptr) {
        dbeta[channel] = static_cast<float>(sum_dy);
    }
}

class Backward final : public Gradient {
  public:
    Backward(const Execution& execution, const bnorm_backward_args& args)
        : Gradient(execution, {args.dy, args.x, args.gamma, args.beta, args.mask, args.dx, args.dresidual}, false),
          args_(args), needs_statistics_(args.dx != nullptr || args.dgamma != nullptr || kernels_need_sign()),
          recomputes_(needs_statistics_ && (args.mean == nullptr || args.inv_std == nullptr)) {}

    int reductions() const override { return (recomputes_ ? 1 : 0) + (needs_sums() ? 1 : 0); }
    SumKind sum_kind(int reduction) const override {
        return is_moments(reduction) ? SumKind::moments : SumKind::gradient;
    }

    void begin(const ChannelRange& range) const override {
        for (std::int64_t i = 0; !recomputes_ && i < range.count; ++i) {
            set_coefficients(range, i, statistics(range, i));
        }
    }

    void reduce(int reduction, Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
                double* first, double* second) const override {
        if (is_moments(reduction)) {
            reduce_moments(execution_.passes, args_.x, pattern, block, first, second);
        } else {
            reduce_gradient(pattern, block, coefficients, first, second);
        }
    }

    void finish(int reduction, const ChannelRange& range) const override {
        for (std::int64_t i = 0; i < range.count; ++i) {
            if (is_moments(reduction)) {
                set_coefficients(range, i, statistics(range, i));
            } else {
                finish_sums(range.sums[static_cast<std::size_t>(reduction)], range, i);
            }
        }
    }

  private:
    bool needs_sums() const { return args_.dx != nullptr || args_.dgamma != nullptr || args_.dbeta != nullptr; }
    bool is_moments(int reduction) const { return recomputes_ && reduction == 0; }
    bool kernels_need_sign() const { return gate_ != kernels::Gate::none && args_.mask == nullptr; }

    void finish_sums(const std::array<double*, 2>& sums, const ChannelRange& range, std::int64_t index) const {
        const Statistics saved = statistics(range, index);
        const double sum_dy = sums[0][index];
        const double centered = about_mean(sum_dy, sums[1][index], saved.mean);
        const double count = static_cast<double>(execution_.passes.geometry.elements_per_channel);
        write_parameter_gradients(args_.dgamma, args_.dbeta, range.first + index, saved.inv_std, sum_dy, centered);
        if (args_.dx != nullptr) {
            set_batch_coefficients(range, index, saved, count, sum_dy, centered);
        }
    }

    Statistics statistics(const ChannelRange& range, std::int64_t index) const {
        const std::int64_t channel = range.first + index;
        Statistics result = {0.0, 1.0};
        if (recomputes_) {
            const double count = static_cast<double>(execution_.passes.geometry.elements_per_channel);
            result.mean = range.sums[0][0][index];
            result.inv_std = inverse_std(range.sums[0][1][index] / count, execution_.problem.epsilon);
        }
        return {value_or(args_.mean, channel, result.mean), value_or(args_.inv_std, channel, result.inv_std)};
    }

    const bnorm_backward_args& args_;
    const bool needs_statistics_;
    const bool recomputes_;
};

class BackwardFixed final : public Gradient {
  public:
    BackwardFixed(const Execution& execution, const bnorm_backward_fixed_args& args)
        : Gradient(execution, {args.dy, args.x, args.gamma, args.beta, args.mask, args.dx, args.dresidual}, true),
          args_(args) {}

    int reductions() const override { return args_.dgamma != nullptr || args_.dbeta != nullptr ? 1 : 0; }
    SumKind sum_kind(int) const override { return SumKind::gradient; }

    void begin(const ChannelRange& range) const override {
        for (std::int64_t i = 0; i < range.count; ++i) {
            set_coefficients(range, i, statistics(range.first + i));
        }
    }

    void reduce(int, Pattern pattern, const plan::Block& block, const Coefficients& coefficients, double* first,
                double* second) const override {
        reduce_gradient(pattern, block, coefficients, first, second);
    }

    void finish(int reduction, const ChannelRange& range) const override {
        const auto& sums = range.sums[static_cast<std::size_t>(reduction)];
        for (std::int64_t i = 0; i < range.count; ++i) {
            const Statistics running = statistics(range.first + i);
            write_parameter_gradients(args_.dgamma, args_.dbeta, range.first + i, running.inv_std, sums[0][i],
                                      about_mean(sums[0][i], sums[1][i], running.mean));
        }
    }

  private:
    Statistics statistics(std::int64_t channel) const {
        const double variance = static_cast<double>(value_or(args_.running_var, channel, 1.0F));
        return {static_cast<double>(value_or(args_.running_mean, channel, 0.0F)),
                inverse_std(variance, execution_.problem.epsilon)};
    }

    const bnorm_backward_fixed_args& args_;
};

class GradientSumsOnly final : public Gradient {
  public:
    GradientSumsOnly(const Execution& execution, const bnorm_gradient_sums_args& args)
        : Gradient(execution, {args.dy, args.x, args.gamma, args.beta, args.mask, nullptr, nullptr}, false),
          args_(args) {}

    int reductions() const override { return 1; }
    SumKind sum_kind(int) const override { return SumKind::gradient; }

    void begin(const ChannelRange& range) const override {
        for (std::int64_t i = 0; i < range.count; ++i) {
            const std::int64_t channel = range.first + i;
            set_coefficients(range, i, {args_.mean[channel], value_or(args_.inv_std, channel, 1.0)});
        }
    }

    void reduce(int, Pattern pattern, const plan::Block& block, const Coefficients& coefficients, double* first,
                double* second) const override {
        reduce_gradient(pattern, block, coefficients, first, second);
    }

    void finish(int reduction, const ChannelRange& range) const override {
        const auto& sums = range.sums[static_cast<std::size_t>(reduction)];
        for (std::int64_t i = 0; i < range.count; ++i) {
            const std::int64_t channel = range.first + i;
            args_.sum_dy[channel] = sums[0][i];
            args_.sum_dy_centered_x[channel] = about_mean(sums[0][i], sums[1][i], args_.mean[channel]);
        }
    }

  private:
    const bnorm_gradient_sums_args& args_;
};

class GradientApplyOnly final : public Gradient {
  public:
    GradientApplyOnly(const Execution& execution, const bnorm_gradient_apply_args& args)
        : Gradient(execution, {args.dy, args.x, args.gamma, args.beta, args.mask, args.dx, args.dresidual}, false),
          args_(args) {}

    int reductions() const override { return 0; }
    SumKind sum_kind(int) const override { return SumKind::gradient; }
    void reduce(int, Pattern, const plan::Block&, const Coefficients&, double*, double*) const override {}
    void finish(int, const ChannelRange&) const override {}

    void begin(const ChannelRange& range) const override {
        for (std::int64_t i = 0; i < range.count; ++i) {
            const std::int64_t channel = range.first + i;
            const Statistics saved = {args_.mean[channel], args_.inv_std[channel]};
            const double sum_dy = args_.sum_dy[channel];
            const double centered = args_.sum_dy_centered_x[channel];
            set_coefficients(range, i, saved);
            set_batch_coefficients(range, i, saved, args_.count, sum_dy, centered);
            write_parameter_gradients(args_.dgamma, args_.dbeta, channel, saved.inv_std, sum_dy, centered);
        }
    }

  private:
    const bnorm_gradient_apply_args& args_;
};

} // namespace

void backward(const Execution& execution, const bnorm_backward_args& args) {
    execution.passes.run(Backward(execution, args));
}

void backward_fixed(const Execution& execution, const bnorm_backward_fixed_args& args) {
    execution.passes.run(BackwardFixed(execution, args));
}

void gradient_sums(const Execution& execution, const bnorm_gradient_sums_args& args) {
    execution.passes.run(GradientSumsOnly(execution, args));
}

void gradient_apply(const Execution& execution, const bnorm_gradient_apply_args& args) {
    execution.passes.run(GradientApplyOnly(execution, args));
}

} // namespace bnorm::ops
