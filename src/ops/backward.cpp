// Backward: (moments of x, if forward's were not kept,) gradient sums; finish: dgamma, dbeta, coefficients; apply.
#include "ops/backward.hpp"

#include <algorithm>

namespace bnorm::ops {
namespace {

// Of `count` channels from `first` on; the buffer's, if the caller gave none.
const double* values_or(const double* values, std::int64_t first, std::int64_t count, double otherwise,
                        double* buffer) {
    if (values != nullptr) {
        return values + first;
    }
    std::fill_n(buffer, count, otherwise);
    return buffer;
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
        if (!recomputes_) {
            finish_statistics(range);
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
        if (is_moments(reduction)) {
            finish_statistics(range);
        } else {
            for_channels(range.count,
                         [&](std::int64_t index, std::int64_t count) { set_from_sums(range, index, count); });
            write_sums(range);
        }
    }

  private:
    bool needs_sums() const { return args_.dx != nullptr || args_.dgamma != nullptr || args_.dbeta != nullptr; }
    bool is_moments(int reduction) const { return recomputes_ && reduction == 0; }
    bool kernels_need_sign() const { return gate_ != kernels::Gate::none && args_.mask == nullptr; }

    void finish_statistics(const ChannelRange& range) const {
        for_channels(range.count, [&](std::int64_t index, std::int64_t count) {
            StatisticsBuffer buffer;
            set_coefficients(range, index, count, statistics(range, index, count, buffer));
        });
    }

    void set_from_sums(const ChannelRange& range, std::int64_t index, std::int64_t count) const override {
        const double samples = static_cast<double>(execution_.passes.geometry.elements_per_channel);
        const auto& sums = range.sums[static_cast<std::size_t>(reductions() - 1)];
        StatisticsBuffer buffer;
        const Statistics saved = statistics(range, index, count, buffer);
        execution_.passes.kernels.about_mean(count, saved.mean, sums[0] + index, sums[1] + index);
        if (args_.dx != nullptr) {
            set_batch_coefficients(range, index, count, saved, samples, {sums[0] + index, sums[1] + index});
        }
    }

    void write_sums(const ChannelRange& range) const override {
        const auto& sums = range.sums[static_cast<std::size_t>(reductions() - 1)];
        for_channels(range.count, [&](std::int64_t index, std::int64_t count) {
            StatisticsBuffer buffer;
            write_parameter_gradients(args_.dgamma, args_.dbeta, range.first + index, count,
                                      statistics(range, index, count, buffer).inv_std,
                                      {sums[0] + index, sums[1] + index});
        });
    }

    // Those that the caller saved, or else those of this execution's own first reduction.
    Statistics statistics(const ChannelRange& range, std::int64_t index, std::int64_t count,
                          StatisticsBuffer& buffer) const {
        const std::int64_t first = range.first + index;
        if (!recomputes_) {
            return {values_or(args_.mean, first, count, 0.0, buffer.mean),
                    values_or(args_.inv_std, first, count, 1.0, buffer.inv_std)};
        }
        if (args_.inv_std == nullptr) {
            inverse_std(execution_.passes.kernels, range.sums[0][1] + index,
                        static_cast<double>(execution_.passes.geometry.elements_per_channel),
                        execution_.problem.epsilon, count, buffer.inv_std);
        }
        return {args_.mean == nullptr ? range.sums[0][0] + index : args_.mean + first,
                args_.inv_std == nullptr ? buffer.inv_std : args_.inv_std + first};
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
    bool applies() const override { return Gradient::applies() && !reduces_and_applies(); }
    SumKind sum_kind(int) const override { return SumKind::gradient; }

    void begin(const ChannelRange& range) const override {
        for_channels(range.count, [&](std::int64_t index, std::int64_t count) {
            double mean[kChannelsAtOnce];
            double* inv_std = range.inv_std + index;
            running_statistics(execution_.passes.kernels, args_.running_mean, args_.running_var,
                               execution_.problem.epsilon, range.first + index, count, mean, inv_std);
            set_coefficients(range, index, count, {mean, inv_std});
        });
    }

    void reduce(int, Pattern pattern, const plan::Block& block, const Coefficients& coefficients, double* first,
                double* second) const override {
        if (reduces_and_applies()) {
            reduce_and_apply(pattern, block, coefficients, first, second);
        } else {
            reduce_gradient(pattern, block, coefficients, first, second);
        }
    }

    void finish(int, const ChannelRange& range) const override { write_sums(range); }

  private:
    // dx need not wait for the sums.
    bool reduces_and_applies() const {
        const Passes& passes = execution_.passes;
        const bool joins = passes.schedule.joins_passes;
        return reductions() > 0 && args_.dx != nullptr && args_.dresidual == nullptr && kernels::is_fixed_gate(gate_) &&
               (passes.geometry.kind == plan::MatrixKind::columns ? joins || passes.from_memory()
                                                                  : joins && takes_planes());
    }

    void write_sums(const ChannelRange& range) const override {
        const auto& sums = range.sums[0];
        for_channels(range.count, [&](std::int64_t index, std::int64_t count) {
            const ValuesOr means(args_.running_mean, range.first + index, count, 0.0F);
            double mean[kChannelsAtOnce];
            execution_.passes.kernels.widen(count, means.data(), mean);
            execution_.passes.kernels.about_mean(count, mean, sums[0] + index, sums[1] + index);
            write_parameter_gradients(args_.dgamma, args_.dbeta, range.first + index, count, range.inv_std + index,
                                      {sums[0] + index, sums[1] + index});
        });
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
        for_channels(range.count, [&](std::int64_t index, std::int64_t count) {
            StatisticsBuffer buffer;
            const std::int64_t first = range.first + index;
            set_coefficients(range, index, count,
                             {values_or(args_.mean, first, count, 0.0, buffer.mean),
                              values_or(args_.inv_std, first, count, 1.0, buffer.inv_std)});
        });
    }

    void reduce(int, Pattern pattern, const plan::Block& block, const Coefficients& coefficients, double* first,
                double* second) const override {
        reduce_gradient(pattern, block, coefficients, first, second);
    }

    void finish(int reduction, const ChannelRange& range) const override {
        const auto& sums = range.sums[static_cast<std::size_t>(reduction)];
        execution_.passes.kernels.about_mean(range.count, args_.mean + range.first, sums[0], sums[1]);
        std::copy_n(sums[0], range.count, args_.sum_dy + range.first);
        std::copy_n(sums[1], range.count, args_.sum_dy_centered_x + range.first);
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
        for_channels(range.count, [&](std::int64_t index, std::int64_t count) {
            const std::int64_t first = range.first + index;
            StatisticsBuffer buffer;
            const Statistics saved = {values_or(args_.mean, first, count, 0.0, buffer.mean),
                                      values_or(args_.inv_std, first, count, 1.0, buffer.inv_std)};
            const kernels::ChannelGradients sums = {args_.sum_dy + first, args_.sum_dy_centered_x + first};
            set_coefficients(range, index, count, saved);
            set_batch_coefficients(range, index, count, saved, args_.count, sums);
            write_parameter_gradients(args_.dgamma, args_.dbeta, first, count, saved.inv_std, sums);
        });
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
