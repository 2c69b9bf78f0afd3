#include "api/plan_arguments.hpp"

namespace bnorm::api {
namespace {

constexpr std::int64_t kElementBytes = 4;

std::int64_t dense_or(std::int64_t stride, std::int64_t dense) { return stride == 0 ? dense : stride; }

} // namespace

PlanArguments::PlanArguments(const char* function, const bnorm_plan& plan)
    : list_(function), plan_(plan), channels_(plan.problem.channels) {
    const bnorm_problem& problem = plan.problem;
    const bool nchw = problem.layout == BNORM_NCHW;
    rows_ = nchw ? problem.batch : problem.batch * problem.spatial;
    row_elements_ = nchw ? problem.channels * problem.spatial : problem.channels;
}

void PlanArguments::add_tensor(const char* name, const void* data, Role role, bool required, std::int64_t stride) {
    list_.add_rows(name, data, role, required, rows_, row_elements_ * kElementBytes,
                   dense_or(stride, row_elements_) * kElementBytes, true);
}

void PlanArguments::add_x(const char* name, const void* data, Role role, bool required) {
    add_tensor(name, data, role, required, plan_.problem.x_stride);
}

void PlanArguments::add_y(const char* name, const void* data, Role role, bool required) {
    add_tensor(name, data, role, required, plan_.problem.y_stride);
}

void PlanArguments::add_residual(const char* name, const void* data, Role role, bool required) {
    add_tensor(name, data, role, required, plan_.problem.residual_stride);
}

void PlanArguments::add_mask(const void* mask, std::size_t mask_bytes, Role role) {
    const auto needed = static_cast<std::size_t>(plan_.geometry.mask_bytes());
    require(mask == nullptr || plan_.problem.activation != BNORM_IDENTITY,
            "mask is given, but the problem has no activation");
    require(mask == nullptr || mask_bytes >= needed, "mask_bytes is less than the plan's mask_bytes");
    list_.add_array("mask", mask, role, false, static_cast<std::int64_t>(needed));
}

void PlanArguments::add_forward_inputs(const void* x, const void* residual, const float* gamma, const float* beta) {
    const bool has_residual = plan_.problem.residual != 0;
    add_x("x", x, Role::input, true);
    add_residual("residual", residual, Role::input, has_residual);
    require(has_residual || residual == nullptr, "residual is given, but problem.residual is 0");
    add_channels("gamma", gamma, Role::input);
    add_channels("beta", beta, Role::input);
}

void PlanArguments::add_forward_outputs(const void* y, const void* mask, std::size_t mask_bytes) {
    add_y("y", y, Role::output, true);
    add_mask(mask, mask_bytes, Role::output);
}

void PlanArguments::add_gradient_mask(const void* mask, std::size_t mask_bytes) {
    add_mask(mask, mask_bytes, Role::input);
    const bool elements = plan_.geometry.elements() > 0;
    const bool hides_sign = plan_.problem.residual != 0 && plan_.problem.activation != BNORM_IDENTITY;
    require(!(elements && hides_sign) || mask != nullptr,
            "mask is NULL, but with a residual and an activation it is needed");
}

void PlanArguments::add_gradient_outputs(const void* dx, const void* dresidual, const float* dgamma,
                                         const float* dbeta) {
    add_x("dx", dx, Role::output, false);
    add_residual("dresidual", dresidual, Role::output, false);
    require(dresidual == nullptr || plan_.problem.residual != 0, "dresidual is given, but problem.residual is 0");
    add_channels("dgamma", dgamma, Role::output);
    add_channels("dbeta", dbeta, Role::output);
    require(dx != nullptr || dresidual != nullptr || dgamma != nullptr || dbeta != nullptr ||
                plan_.geometry.elements() == 0,
            "no output is given (dx, dresidual, dgamma, dbeta)");
}

} // namespace bnorm::api
