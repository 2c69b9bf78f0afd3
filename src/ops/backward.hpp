// The operations on gradients.
#ifndef BNORM_OPS_BACKWARD_HPP
#define BNORM_OPS_BACKWARD_HPP

#include "ops/statistics.hpp"
#include "ops/tensors.hpp"

namespace bnorm::ops {

struct GradientTensors {
    const void* dy;
    const void* x; // nullptr: not needed
    const float* gamma;
    const float* beta;
    const void* mask;
    void* dx;
    void* dresidual;
};

// How dy becomes dy': see kernels/kernel_table.hpp.
kernels::Gate gate_of(bnorm_activation activation, bool mask);

// Of the channels of one group of for_channels.
struct Statistics {
    const double* mean;
    const double* inv_std;
};
struct StatisticsBuffer {
    double mean[kChannelsAtOnce];
    double inv_std[kChannelsAtOnce];
};

// What they share: the sums, the elementwise pass and their coefficients.
class Gradient : public Operation {
  public:
    Gradient(const Execution& execution, const GradientTensors& tensors, bool fixed)
        : execution_(execution), tensors_(tensors), fixed_(fixed),
          gate_(gate_of(execution.problem.activation, tensors.mask != nullptr)) {}

    Inputs inputs() const final { return {tensors_.x, tensors_.dy}; }
    bool applies() const override { return tensors_.dx != nullptr || tensors_.dresidual != nullptr; }
    bool takes_planes() const final { return run_of_planes(execution_.passes.geometry, tensors_.mask); }
    int coefficients() const final { return plan::kCoefficients; }
    void apply(Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
               std::int64_t ahead) const final;
    bool runs_in_l1() const final { return reductions() == 1 && applies() && takes_planes(); }
    void run_in_l1(const ChannelRange& range, std::int64_t channels) const final;
    bool runs_beside() const final;
    void run_beside(const ChannelRange& range) const final;

  protected:
    ~Gradient() = default;

    void reduce_gradient(Pattern pattern, const plan::Block& block, const Coefficients& coefficients, double* sum_dy,
                         double* sum_dy_centered_x) const;
    // And dx of the block with fixed statistics; no dresidual, a gate of kernels::kFixedGates.
    void reduce_and_apply(Pattern pattern, const plan::Block& block, const Coefficients& coefficients, double* sum_dy,
                          double* sum_dy_centered_x) const;
    // Of `count` channels, at most kChannelsAtOnce, from the index-th of the range: for the sums and for apply with
    // fixed statistics.
    void set_coefficients(const ChannelRange& range, std::int64_t index, std::int64_t count,
                          const Statistics& statistics) const;
    // For apply through batch statistics of so many samples a channel.
    void set_batch_coefficients(const ChannelRange& range, std::int64_t index, std::int64_t count,
                                const Statistics& statistics, double samples,
                                const kernels::ChannelGradients& sums) const;

    // What finish does after the sums. Of `count` channels, at most kChannelsAtOnce, from the index-th of the range:
    // sums of dy'*(x-center) become those of dy'*(x-mean), and coefficients of apply.
    virtual void set_from_sums(const ChannelRange&, std::int64_t /*index*/, std::int64_t /*count*/) const {}
    // After that: what is written of the sums.
    virtual void write_sums(const ChannelRange&) const {}

    // Of the channels from `first` on; either may be null.
    void write_parameter_gradients(float* dgamma, float* dbeta, std::int64_t first, std::int64_t count,
                                   const double* inv_std, const kernels::ChannelGradients& sums) const;

    const Execution& execution_;
    const GradientTensors tensors_;
    const bool fixed_;
    const kernels::Gate gate_;

  private:
    bool is_input(const void* output) const;
    kernels::GradientSums sums_task(Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
                                    double* sum_dy, double* sum_dy_centered_x) const;
    kernels::GradientApply apply_task(Pattern pattern, const plan::Block& block,
                                      const Coefficients& coefficients) const;
    int apply_variant(Pattern pattern, const kernels::GradientApply& task) const;
};

void backward(const Execution& execution, const bnorm_backward_args& args);
void backward_fixed(const Execution& execution, const bnorm_backward_fixed_args& args);
void gradient_sums(const Execution& execution, const bnorm_gradient_sums_args& args);
void gradient_apply(const Execution& execution, const bnorm_gradient_apply_args& args);

} // namespace bnorm::ops

#endif
