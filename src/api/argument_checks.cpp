#include "api/argument_checks.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "api/error.hpp"

namespace bnorm::api {
namespace {

bnorm_status check_enums(const bnorm_problem& problem) {
    const char* const where = "bnorm_plan_create";
    const auto unknown = [&](const char* member, std::int32_t value) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: problem.%s is %d, which is none of its named values.", where, member,
                    static_cast<int>(value));
    };
    if (problem.operation < BNORM_TRAINING_FORWARD || problem.operation > BNORM_GRADIENT_APPLY) {
        return unknown("operation", problem.operation);
    }
    if (problem.data_type != BNORM_F32) {
        return unknown("data_type", problem.data_type);
    }
    if (problem.layout != BNORM_NCHW && problem.layout != BNORM_NHWC) {
        return unknown("layout", problem.layout);
    }
    if (problem.activation < BNORM_IDENTITY || problem.activation > BNORM_CLIPPED_RELU) {
        return unknown("activation", problem.activation);
    }
    if (problem.residual != 0 && problem.residual != 1) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: problem.residual is %d; it must be 0 or 1.", where,
                    static_cast<int>(problem.residual));
    }
    return BNORM_OK;
}

bnorm_status check_numbers(const bnorm_problem& problem) {
    const char* const where = "bnorm_plan_create";
    if (!is_epsilon(problem.epsilon)) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: problem.epsilon is %g; it must be finite and not negative.", where,
                    problem.epsilon);
    }
    const double parameter = static_cast<double>(problem.activation_parameter);
    if (problem.activation == BNORM_LEAKY_RELU && !std::isfinite(parameter)) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: problem.activation_parameter (the slope) is %g; it must be finite.",
                    where, parameter);
    }
    if (problem.activation == BNORM_CLIPPED_RELU && !(parameter > 0.0)) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: problem.activation_parameter (the bound) is %g; it must be above 0.",
                    where, parameter);
    }
    if (problem.threads < 0) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: problem.threads is %d; it must not be negative.", where,
                    static_cast<int>(problem.threads));
    }
    if (problem.parallel_for != nullptr &&
        (problem.parallel_for->run == nullptr || problem.parallel_for->threads < 1)) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: problem.parallel_for needs a function and at least 1 thread.", where);
    }
    return BNORM_OK;
}

bnorm_status check_sizes(const bnorm_problem& problem) {
    const char* const where = "bnorm_plan_create";
    const std::array<std::pair<const char*, std::int64_t>, 6> members = {
        {{"batch", problem.batch},
         {"channels", problem.channels},
         {"spatial", problem.spatial},
         {"x_stride", problem.x_stride},
         {"y_stride", problem.y_stride},
         {"residual_stride", problem.residual_stride}}};
    for (const auto& [name, value] : members) {
        if (value < 0) {
            return fail(BNORM_INVALID_ARGUMENT, "%s: problem.%s is %lld; it must not be negative.", where, name,
                        static_cast<long long>(value));
        }
    }
    const std::int64_t elements = checked_product(problem.batch, problem.channels, problem.spatial);
    // Room for the mask's and the planner's rounding up as well.
    constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 16;
    const bool nchw = problem.layout == BNORM_NCHW;
    const std::int64_t rows = nchw ? problem.batch : checked_product(problem.batch, problem.spatial);
    const std::int64_t row = nchw ? checked_product(problem.channels, problem.spatial) : problem.channels;
    const bool channel_arrays_fit = problem.channels <= kMost / 16;
    if (elements < 0 || elements > kMost || rows < 0 || row < 0 || !channel_arrays_fit) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: the bytes of batch * channels * spatial overflow int64.", where);
    }
    for (const auto& [name, value] : {members[3], members[4], members[5]}) {
        if (value != 0 && value < row) {
            return fail(BNORM_INVALID_ARGUMENT, "%s: problem.%s is %lld; a row has %lld elements.", where, name,
                        static_cast<long long>(value), static_cast<long long>(row));
        }
        const std::int64_t extent = checked_product(rows, value);
        if (extent < 0 || extent > kMost) {
            return fail(BNORM_INVALID_ARGUMENT, "%s: the bytes of rows * problem.%s overflow int64.", where, name);
        }
    }
    return BNORM_OK;
}

} // namespace

std::int64_t checked_product(std::int64_t a, std::int64_t b, std::int64_t c) {
    std::int64_t product = 0;
    if (a == 0 || b == 0 || c == 0) {
        return 0;
    }
    if (__builtin_mul_overflow(a, b, &product) || __builtin_mul_overflow(product, c, &product)) {
        return -1;
    }
    return product;
}

bool is_epsilon(double epsilon) { return std::isfinite(epsilon) && epsilon >= 0.0; }

bnorm_status check_problem(const bnorm_problem* problem) {
    if (problem == nullptr) {
        return fail(BNORM_INVALID_ARGUMENT, "bnorm_plan_create: problem is NULL.");
    }
    for (const auto check : {check_enums, check_numbers, check_sizes}) {
        if (const bnorm_status status = check(*problem); status != BNORM_OK) {
            return status;
        }
    }
    return BNORM_OK;
}

bnorm_status check_running_update(const char* function, bnorm_running_update update, double momentum,
                                  std::int64_t batches_seen) {
    if (update < BNORM_RUNNING_EXPONENTIAL || update > BNORM_RUNNING_CUMULATIVE) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: running_update is %d, which is none of its named values.", function,
                    static_cast<int>(update));
    }
    if (update != BNORM_RUNNING_CUMULATIVE && !std::isfinite(momentum)) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: momentum is %g; it must be finite.", function, momentum);
    }
    if (update == BNORM_RUNNING_CUMULATIVE && batches_seen < 0) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: batches_seen is %lld; it must not be negative.", function,
                    static_cast<long long>(batches_seen));
    }
    return BNORM_OK;
}

void ArgumentList::add_rows(const char* name, const void* data, Role role, bool required, std::int64_t rows,
                            std::int64_t row_bytes, std::int64_t stride_bytes, bool in_place) {
    if (data == nullptr) {
        const bool empty = rows == 0 || row_bytes == 0;
        if (required && !empty && missing_ == nullptr) {
            missing_ = name;
        }
        return;
    }
    const std::int64_t bytes = rows == 0 || row_bytes == 0 ? 0 : (rows - 1) * stride_bytes + row_bytes;
    const auto begin = reinterpret_cast<std::uintptr_t>(data);
    arguments_[count_++] = {name, begin,   begin + static_cast<std::uintptr_t>(bytes), rows, row_bytes, stride_bytes,
                            role, in_place};
}

void ArgumentList::add_array(const char* name, const void* data, Role role, bool required, std::int64_t bytes,
                             bool in_place) {
    add_rows(name, data, role, required, bytes == 0 ? 0 : 1, bytes, bytes, in_place);
}

void ArgumentList::require(bool condition, const char* message) {
    if (!condition && objection_ == nullptr) {
        objection_ = message;
    }
}

bool ArgumentList::elements_overlap(const Argument& a, const Argument& b) {
    if (a.rows <= 1 || b.rows <= 1 || a.stride_bytes != b.stride_bytes) {
        return true;
    }
    // Rows of equal distance: those of b start at one place between those of a.
    const auto stride = static_cast<std::uintptr_t>(a.stride_bytes);
    const std::uintptr_t distance =
        b.begin >= a.begin ? (b.begin - a.begin) % stride : (stride - (a.begin - b.begin) % stride) % stride;
    return distance < static_cast<std::uintptr_t>(a.row_bytes) ||
           stride - distance < static_cast<std::uintptr_t>(b.row_bytes);
}

// Exactly in place: the same elements in the same order.
bool ArgumentList::may_coincide(const Argument& output, const Argument& other) {
    return output.in_place && other.role == Role::input && other.in_place && output.begin == other.begin &&
           output.rows == other.rows && output.row_bytes == other.row_bytes &&
           output.stride_bytes == other.stride_bytes;
}

bnorm_status ArgumentList::check() const {
    if (missing_ != nullptr) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: %s is NULL.", function_, missing_);
    }
    if (objection_ != nullptr) {
        return fail(BNORM_INVALID_ARGUMENT, "%s: %s.", function_, objection_);
    }
    for (std::size_t i = 0; i < count_; ++i) {
        if (arguments_[i].begin > arguments_[i].end) {
            return fail(BNORM_INVALID_ARGUMENT, "%s: %s reaches past the end of memory.", function_,
                        arguments_[i].name);
        }
        for (std::size_t k = 0; k < i; ++k) {
            const Argument& a = arguments_[i];
            const Argument& b = arguments_[k];
            if (a.begin >= b.end || b.begin >= a.end) {
                continue;
            }
            const bool harmless =
                (a.role == Role::input && b.role == Role::input) || may_coincide(a, b) || may_coincide(b, a);
            if (!harmless && elements_overlap(a, b)) {
                return fail(BNORM_INVALID_ARGUMENT, "%s: %s and %s overlap.", function_, b.name, a.name);
            }
        }
    }
    return BNORM_OK;
}

} // namespace bnorm::api
