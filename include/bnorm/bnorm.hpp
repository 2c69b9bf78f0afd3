/*
 * bnorm for C++20: bnorm.h with owners, spans and exceptions, and nothing else. What functions compute and which
 * arguments they need is said in bnorm.h; an empty span is an argument left out.
 *
 *     bnorm::Plan plan({.operation = BNORM_TRAINING_FORWARD, .batch = n, .channels = c, .spatial = h * w,
 *                       .epsilon = 1e-5});
 *     plan.training_forward({.x = x, .y = y});
 */
#ifndef BNORM_BNORM_HPP
#define BNORM_BNORM_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include "bnorm/bnorm.h"

namespace bnorm {

// What a failed call reports: bnorm_last_error() as what(), and the status. Thrown by everything below that can fail.
class Error : public std::runtime_error {
  public:
    Error(bnorm_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
    bnorm_status status() const noexcept { return status_; }

  private:
    bnorm_status status_;
};

inline void check(bnorm_status status) {
    if (status != BNORM_OK) {
        throw Error(status, bnorm_last_error());
    }
}

using Input = std::span<const float>;
using Output = std::span<float>;
using StatisticsInput = std::span<const double>;
using StatisticsOutput = std::span<double>;
using MaskInput = std::span<const std::byte>;
using MaskOutput = std::span<std::byte>;

struct TrainingForward {
    Input x, residual, gamma, beta;
    Output y;
    StatisticsOutput mean, inv_std;
    Output running_mean, running_var;
    bnorm_running_update running_update = BNORM_RUNNING_EXPONENTIAL;
    double momentum = 0.1;
    std::int64_t batches_seen = 0;
    MaskOutput mask;
};

struct Inference {
    Input x, residual, gamma, beta, running_mean, running_var;
    Output y;
    MaskOutput mask;
};

struct Backward {
    Input dy, x, gamma, beta;
    StatisticsInput mean, inv_std;
    MaskInput mask;
    Output dx, dresidual, dgamma, dbeta;
};

struct BackwardFixed {
    Input dy, x, gamma, beta, running_mean, running_var;
    MaskInput mask;
    Output dx, dresidual, dgamma, dbeta;
};

struct Moments {
    Input x;
    double& count;
    StatisticsOutput mean, m2;
};

struct Apply {
    Input x, residual, gamma, beta;
    StatisticsInput mean, inv_std;
    Output y;
    MaskOutput mask;
};

struct GradientSums {
    Input dy, x, gamma, beta;
    StatisticsInput mean, inv_std;
    MaskInput mask;
    StatisticsOutput sum_dy, sum_dy_centered_x;
};

struct GradientApply {
    Input dy, x, gamma, beta;
    StatisticsInput mean, inv_std, sum_dy, sum_dy_centered_x;
    double count = 0.0;
    MaskInput mask;
    Output dx, dresidual, dgamma, dbeta;
};

// Owns a bnorm_plan. Spans that are too short for the problem are BNORM_INVALID_ARGUMENT. Executing is const and may be
// done by any number of threads at once; a plan that was moved from may only be destroyed or assigned to.
class Plan {
  public:
    explicit Plan(const bnorm_problem& problem) : problem_(problem) {
        bnorm_plan* plan = nullptr;
        check(bnorm_plan_create(&problem, &plan));
        plan_.reset(plan);
        problem_.parallel_for = nullptr; // the plan has a copy
    }

    const bnorm_plan* get() const noexcept { return plan_.get(); }

    bnorm_plan_info info() const {
        bnorm_plan_info info;
        check(bnorm_plan_get_info(plan_.get(), &info));
        return info;
    }

    void training_forward(const TrainingForward& args) const {
        const bnorm_training_forward_args c = {x("x", args.x),
                                               residual("residual", args.residual),
                                               channels("gamma", args.gamma),
                                               channels("beta", args.beta),
                                               y("y", args.y),
                                               channels("mean", args.mean),
                                               channels("inv_std", args.inv_std),
                                               channels("running_mean", args.running_mean),
                                               channels("running_var", args.running_var),
                                               args.running_update,
                                               args.momentum,
                                               args.batches_seen,
                                               args.mask.data(),
                                               args.mask.size()};
        check(bnorm_training_forward(plan_.get(), &c));
    }

    void inference(const Inference& args) const {
        const bnorm_inference_args c = {x("x", args.x),
                                        residual("residual", args.residual),
                                        channels("gamma", args.gamma),
                                        channels("beta", args.beta),
                                        channels("running_mean", args.running_mean),
                                        channels("running_var", args.running_var),
                                        y("y", args.y),
                                        args.mask.data(),
                                        args.mask.size()};
        check(bnorm_inference(plan_.get(), &c));
    }

    void backward(const Backward& args) const {
        const bnorm_backward_args c = {y("dy", args.dy),
                                       x("x", args.x),
                                       channels("gamma", args.gamma),
                                       channels("beta", args.beta),
                                       channels("mean", args.mean),
                                       channels("inv_std", args.inv_std),
                                       args.mask.data(),
                                       args.mask.size(),
                                       x("dx", args.dx),
                                       residual("dresidual", args.dresidual),
                                       channels("dgamma", args.dgamma),
                                       channels("dbeta", args.dbeta)};
        check(bnorm_backward(plan_.get(), &c));
    }

    void backward_fixed(const BackwardFixed& args) const {
        const bnorm_backward_fixed_args c = {y("dy", args.dy),
                                             x("x", args.x),
                                             channels("gamma", args.gamma),
                                             channels("beta", args.beta),
                                             channels("running_mean", args.running_mean),
                                             channels("running_var", args.running_var),
                                             args.mask.data(),
                                             args.mask.size(),
                                             x("dx", args.dx),
                                             residual("dresidual", args.dresidual),
                                             channels("dgamma", args.dgamma),
                                             channels("dbeta", args.dbeta)};
        check(bnorm_backward_fixed(plan_.get(), &c));
    }

    void moments(const Moments& args) const {
        const bnorm_moments_args c = {x("x", args.x), &args.count, channels("mean", args.mean),
                                      channels("m2", args.m2)};
        check(bnorm_moments(plan_.get(), &c));
    }

    void apply(const Apply& args) const {
        const bnorm_apply_args c = {x("x", args.x),
                                    residual("residual", args.residual),
                                    channels("gamma", args.gamma),
                                    channels("beta", args.beta),
                                    channels("mean", args.mean),
                                    channels("inv_std", args.inv_std),
                                    y("y", args.y),
                                    args.mask.data(),
                                    args.mask.size()};
        check(bnorm_apply(plan_.get(), &c));
    }

    void gradient_sums(const GradientSums& args) const {
        const bnorm_gradient_sums_args c = {y("dy", args.dy),
                                            x("x", args.x),
                                            channels("gamma", args.gamma),
                                            channels("beta", args.beta),
                                            channels("mean", args.mean),
                                            channels("inv_std", args.inv_std),
                                            args.mask.data(),
                                            args.mask.size(),
                                            channels("sum_dy", args.sum_dy),
                                            channels("sum_dy_centered_x", args.sum_dy_centered_x)};
        check(bnorm_gradient_sums(plan_.get(), &c));
    }

    void gradient_apply(const GradientApply& args) const {
        const bnorm_gradient_apply_args c = {y("dy", args.dy),
                                             x("x", args.x),
                                             channels("gamma", args.gamma),
                                             channels("beta", args.beta),
                                             channels("mean", args.mean),
                                             channels("inv_std", args.inv_std),
                                             channels("sum_dy", args.sum_dy),
                                             channels("sum_dy_centered_x", args.sum_dy_centered_x),
                                             args.count,
                                             args.mask.data(),
                                             args.mask.size(),
                                             x("dx", args.dx),
                                             residual("dresidual", args.dresidual),
                                             channels("dgamma", args.dgamma),
                                             channels("dbeta", args.dbeta)};
        check(bnorm_gradient_apply(plan_.get(), &c));
    }

  private:
    struct Destroy {
        void operator()(bnorm_plan* plan) const noexcept { bnorm_plan_destroy(plan); }
    };

    // From the first to the last element of a tensor whose rows are so far apart.
    std::int64_t elements(std::int64_t stride) const {
        const bool channels_first = problem_.layout == BNORM_NCHW;
        const std::int64_t row = problem_.channels * (channels_first ? problem_.spatial : 1);
        const std::int64_t rows = problem_.batch * (channels_first ? 1 : problem_.spatial);
        return rows == 0 || row == 0 ? 0 : (rows - 1) * (stride == 0 ? row : stride) + row;
    }

    // A span's address; nullptr for one that is left out.
    template <class T>
    static T* checked(const char* name, std::span<T> values, std::int64_t least) {
        if (!values.empty() && static_cast<std::int64_t>(values.size()) < least) {
            throw Error(BNORM_INVALID_ARGUMENT, std::string(name) + " has " + std::to_string(values.size()) +
                                                    " elements; the problem needs " + std::to_string(least) + ".");
        }
        return values.empty() ? nullptr : values.data();
    }
    template <class T>
    T* x(const char* name, std::span<T> values) const {
        return checked(name, values, elements(problem_.x_stride));
    }
    template <class T>
    T* y(const char* name, std::span<T> values) const {
        return checked(name, values, elements(problem_.y_stride));
    }
    template <class T>
    T* residual(const char* name, std::span<T> values) const {
        return checked(name, values, elements(problem_.residual_stride));
    }
    template <class T>
    T* channels(const char* name, std::span<T> values) const {
        return checked(name, values, problem_.channels);
    }

    bnorm_problem problem_;
    std::unique_ptr<bnorm_plan, Destroy> plan_;
};

// The functions that need no plan take C's structs.
inline void moments_merge(const bnorm_moments_merge_args& args) { check(bnorm_moments_merge(&args)); }
inline void moments_finish(const bnorm_moments_finish_args& args) { check(bnorm_moments_finish(&args)); }
inline void fold(const bnorm_fold_args& args) { check(bnorm_fold(&args)); }
inline void fold_weights(const bnorm_fold_weights_args& args) { check(bnorm_fold_weights(&args)); }

} // namespace bnorm

#endif
