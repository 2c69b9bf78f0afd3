// Plans and calls in a form that tests can write in one line.
#ifndef BNORM_TESTS_SUPPORT_HPP
#define BNORM_TESTS_SUPPORT_HPP

#include <doctest/doctest.h>

#include <memory>
#include <ostream>
#include <string>

#include "reference.hpp"

namespace tests {

inline constexpr double kEpsilon = 1e-5;

inline bnorm_problem problem_of(bnorm_operation operation, const Shape& shape, const Activation& activation = {},
                                bool residual = false, int threads = 1) {
    bnorm_problem problem = {};
    problem.operation = operation;
    problem.layout = shape.layout;
    problem.batch = shape.batch;
    problem.channels = shape.channels;
    problem.spatial = shape.spatial;
    problem.epsilon = kEpsilon;
    problem.activation = activation.kind;
    problem.activation_parameter = activation.parameter;
    problem.residual = residual ? 1 : 0;
    problem.threads = threads;
    return problem;
}

// A plan that must be valid.
class Plan {
  public:
    explicit Plan(const bnorm_problem& problem) {
        bnorm_plan* plan = nullptr;
        const bnorm_status status = bnorm_plan_create(&problem, &plan);
        INFO(std::string(bnorm_last_error()));
        REQUIRE(status == BNORM_OK);
        plan_.reset(plan);
        REQUIRE(bnorm_plan_get_info(plan, &info_) == BNORM_OK);
    }
    operator const bnorm_plan*() const { return plan_.get(); } // NOLINT: implicit, so that calls read as in C
    const bnorm_plan_info& info() const { return info_; }

  private:
    struct Destroy {
        void operator()(bnorm_plan* plan) const { bnorm_plan_destroy(plan); }
    };
    std::unique_ptr<bnorm_plan, Destroy> plan_;
    bnorm_plan_info info_{};
};

#define REQUIRE_OK(call)                                                                                               \
    do {                                                                                                               \
        const bnorm_status status_of_call = (call);                                                                    \
        INFO(std::string(bnorm_last_error()));                                                                         \
        REQUIRE(status_of_call == BNORM_OK);                                                                           \
    } while (false)

inline std::ostream& operator<<(std::ostream& stream, const Shape& shape) {
    return stream << (shape.layout == BNORM_NCHW ? "NCHW " : "NHWC ") << shape.batch << "x" << shape.channels << "x"
                  << shape.spatial;
}

inline constexpr Activation kActivations[] = {
    {BNORM_IDENTITY, 0.0F}, {BNORM_RELU, 0.0F}, {BNORM_LEAKY_RELU, 0.125F}, {BNORM_CLIPPED_RELU, 1.5F}};
inline constexpr bnorm_layout kLayouts[] = {BNORM_NCHW, BNORM_NHWC};

} // namespace tests

#endif
