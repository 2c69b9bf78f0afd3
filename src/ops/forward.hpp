// The operations that write y.
#ifndef BNORM_OPS_FORWARD_HPP
#define BNORM_OPS_FORWARD_HPP

#include "ops/tensors.hpp"

namespace bnorm::ops {

struct ForwardTensors {
    const void* x;
    const void* residual;
    const float* gamma;
    const float* beta;
    void* y;
    void* mask;
};

// What they share: the elementwise pass and its coefficients.
class Forward : public Operation {
  public:
    Forward(const Execution& execution, const ForwardTensors& tensors) : execution_(execution), tensors_(tensors) {}

    Inputs inputs() const final { return {tensors_.x, nullptr}; }
    bool applies() const final { return true; }
    bool takes_planes() const final { return run_of_planes(execution_.passes.geometry, tensors_.mask); }
    int coefficients() const final { return kShift + 1; }
    void apply(Pattern pattern, const plan::Block& block, const Coefficients& coefficients,
               std::int64_t ahead) const final;

  protected:
    ~Forward() = default;
    // Of `count` channels, at most kChannelsAtOnce, from the index-th of the range.
    void set_coefficients(const ChannelRange& range, std::int64_t index, std::int64_t count, const double* mean,
                          const double* inv_std) const;

    kernels::Apply apply_task(Pattern pattern, const plan::Block& block, const Coefficients& coefficients) const;
    bool is_input(const void* output) const;
    int apply_variant(Pattern pattern, const kernels::Apply& task) const;

    const Execution& execution_;
    const ForwardTensors tensors_;
};

void training_forward(const Execution& execution, const bnorm_training_forward_args& args);
void inference(const Execution& execution, const bnorm_inference_args& args);
void apply(const Execution& execution, const bnorm_apply_args& args);

} // namespace bnorm::ops

#endif
