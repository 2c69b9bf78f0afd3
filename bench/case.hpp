// One operation on one tensor, ready to run: what every program in this folder times.
#ifndef BNORM_BENCH_CASE_HPP
#define BNORM_BENCH_CASE_HPP

#include <bnorm/bnorm.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "shapes.hpp"

namespace bench {

struct Operation {
    const char* name;
    bnorm_operation kind;
    bnorm_activation activation;
    bool residual;
    // Tensors that must be read or written once at least, masks left out.
    int streams;
};

inline constexpr std::array kOperations = {
    Operation{"training_forward", BNORM_TRAINING_FORWARD, BNORM_IDENTITY, false, 2},
    Operation{"training_forward_relu", BNORM_TRAINING_FORWARD, BNORM_RELU, false, 2},
    Operation{"training_forward_residual_relu", BNORM_TRAINING_FORWARD, BNORM_RELU, true, 3},
    Operation{"inference", BNORM_INFERENCE, BNORM_IDENTITY, false, 2},
    Operation{"inference_relu", BNORM_INFERENCE, BNORM_RELU, false, 2},
    Operation{"inference_residual_relu", BNORM_INFERENCE, BNORM_RELU, true, 3},
    Operation{"backward", BNORM_BACKWARD, BNORM_IDENTITY, false, 3},
    Operation{"backward_relu", BNORM_BACKWARD, BNORM_RELU, false, 3},
    Operation{"backward_residual_relu", BNORM_BACKWARD, BNORM_RELU, true, 4},
    Operation{"backward_fixed", BNORM_BACKWARD_FIXED, BNORM_IDENTITY, false, 3},
    Operation{"moments", BNORM_MOMENTS, BNORM_IDENTITY, false, 1},
};

inline constexpr std::array<bnorm_layout, 2> kLayouts = {BNORM_NCHW, BNORM_NHWC};
inline const char* layout_name(bnorm_layout layout) { return layout == BNORM_NCHW ? "nchw" : "nhwc"; }

struct FreeMemory {
    void operator()(float* memory) const { std::free(memory); }
};
using Floats = std::unique_ptr<float[], FreeMemory>;

// `count` floats in pages of their own, which have been touched: values between -1 and 1, or all zero. On the heap the
// distance of two tensors would depend on what was allocated before them, and loads may wait for stores to addresses
// that agree with theirs in the lower 12 bits.
Floats make_floats(std::int64_t count, bool random);

struct Description {
    Operation operation;
    bnorm_layout layout;
    Shape shape;
    bnorm_isa isa;
    int threads;

    std::string name() const; // operation/layout/layer:sizes/isa/threads:n
};

// Allocates its tensors when it is made and nothing afterwards. Throws std::runtime_error with the library's message.
class Case {
  public:
    // `x`, if it is not null, is read instead of a tensor of its own.
    explicit Case(const Description& description, float* x = nullptr);
    Case(const Case&) = delete;
    Case& operator=(const Case&) = delete;
    void run();
    float* x() const { return given_x_ != nullptr ? given_x_ : x_.get(); }
    float* y() const { return y_.get(); } // nullptr where there is none
    // What one run must move between core and memory at least.
    double bytes() const { return description_.operation.streams * description_.shape.bytes(); }

  private:
    void prepare_tensors();
    void prepare_arguments();

    struct DestroyPlan {
        void operator()(bnorm_plan* plan) const { bnorm_plan_destroy(plan); }
    };

    Description description_;
    std::unique_ptr<bnorm_plan, DestroyPlan> plan_;
    float* given_x_;
    Floats x_, y_, residual_, dy_, dx_, dresidual_;
    std::vector<float> gamma_, beta_, running_mean_, running_var_, dgamma_, dbeta_;
    std::vector<double> mean_, inv_std_;
    std::vector<unsigned char> mask_;
    double count_ = 0;
    bnorm_training_forward_args training_{};
    bnorm_inference_args inference_{};
    bnorm_backward_args backward_{};
    bnorm_backward_fixed_args backward_fixed_{};
    bnorm_moments_args moments_{};
};

} // namespace bench

#endif
