// One batch norm layer with all its arrays, and what the oracle says of it.
#ifndef BNORM_TESTS_LAYER_HPP
#define BNORM_TESTS_LAYER_HPP

#include <vector>

#include "support.hpp"

namespace tests {

struct Setup {
    Shape shape;
    Activation activation = {};
    bool residual = false;
    bool mask = false;
    int threads = 1;
    Placement placement = Placement::aligned;
    std::int64_t gap = 0; // between rows, each kind of tensor with another one
    bool in_place = false;
    bool gamma = true;
    bool beta = true;
    double mean = 0.5; // of x, whose standard deviation is 1
    // Of tensors so large that all channels would take long.
    std::int64_t check_first = 0;
    std::int64_t check_every = 1;
};

std::ostream& operator<<(std::ostream& stream, const Setup& setup);

// Inputs are filled in the constructor, the same for equal shapes; outputs start as 0xAB bytes.
struct Layer {
    explicit Layer(const Setup& setup);

    Setup setup;
    Tensor x, residual, y, dy, dx, dresidual;
    Buffer<float> gamma, beta, running_mean, running_var, dgamma, dbeta;
    std::vector<float> running_mean_before, running_var_before; // as the constructor left them
    Buffer<double> mean, inv_std;
    Buffer<unsigned char> mask;

    bnorm_problem problem(bnorm_operation operation) const;
    const float* gamma_or_null() const { return setup.gamma ? gamma.data() : nullptr; }
    const float* beta_or_null() const { return setup.beta ? beta.data() : nullptr; }

    bnorm_training_forward_args forward_args();
    bnorm_inference_args inference_args();
    bnorm_backward_args backward_args(); // as if after forward; the mask is handed on where setup.mask says so
    bnorm_backward_fixed_args backward_fixed_args();

    void run_forward();
    void run_inference();
    void run_backward();
    void run_backward_fixed();
};

// Compares what a run left in the layer with the oracle. `x` and `residual` are what the run was given (after a run in
// place the layer's own are overwritten).
void check_forward(const Layer& layer, const Tensor& x, const Tensor& residual);
void check_inference(const Layer& layer, const Tensor& x, const Tensor& residual);
void check_backward(const Layer& layer, const Tensor& dy, bool fixed);

} // namespace tests

#endif
