// Every bad argument: the right status, a message that names it, and nothing written.
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <thread>

#include "layer.hpp"

using namespace tests;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

bool message_has(const std::string& part) { return std::string(bnorm_last_error()).find(part) != std::string::npos; }

// All that a layer's calls could write.
std::vector<std::vector<unsigned char>> outputs_of(const Layer& layer) {
    const auto bytes = [](const Tensor& tensor) {
        const auto* first = reinterpret_cast<const unsigned char*>(tensor.data());
        return std::vector<unsigned char>(first, first + tensor.shape().elements() * 4);
    };
    return {bytes(layer.x),
            bytes(layer.residual),
            bytes(layer.y),
            bytes(layer.dy),
            bytes(layer.dx),
            bytes(layer.dresidual),
            layer.gamma.snapshot(),
            layer.running_mean.snapshot(),
            layer.running_var.snapshot(),
            layer.dgamma.snapshot(),
            layer.dbeta.snapshot(),
            layer.mean.snapshot(),
            layer.inv_std.snapshot(),
            layer.mask.snapshot()};
}

template <class Args>
struct BadArgument {
    const char* message;
    std::function<void(Args&, Layer&)> spoil;
};

const Setup kSetup = {
    .shape = {BNORM_NCHW, 2, 3, 20}, .activation = {BNORM_RELU, 0.0F}, .residual = true, .mask = true};

template <class Args, class Make, class Call>
void check_bad_arguments(const std::vector<BadArgument<Args>>& table, bnorm_operation operation, const Make& make,
                         const Call& call) {
    Layer layer(kSetup);
    const Plan plan(layer.problem(operation));
    for (const BadArgument<Args>& bad : table) {
        INFO("operation ", operation, ", expected message: ", std::string(bad.message));
        Args args = make(layer);
        bad.spoil(args, layer);
        const auto before = outputs_of(layer);
        CHECK(call(plan, &args) == BNORM_INVALID_ARGUMENT);
        INFO("message: ", std::string(bnorm_last_error()));
        CHECK(message_has(bad.message));
        CHECK(outputs_of(layer) == before);
    }
    Args args = make(layer);
    CHECK(call(plan, static_cast<const Args*>(nullptr)) == BNORM_INVALID_ARGUMENT);
    CHECK(message_has("args is NULL"));
    CHECK(call(static_cast<const bnorm_plan*>(nullptr), &args) == BNORM_INVALID_ARGUMENT);
    CHECK(message_has("plan is NULL"));
    for (bnorm_operation other = BNORM_TRAINING_FORWARD; other <= BNORM_GRADIENT_APPLY; ++other) {
        if (other != operation) {
            const auto before = outputs_of(layer);
            CHECK(call(Plan(layer.problem(other)), &args) == BNORM_INVALID_ARGUMENT);
            CHECK(message_has("another operation"));
            CHECK(outputs_of(layer) == before);
        }
    }
    REQUIRE_OK(call(plan, &args)); // what was spoiled was the only thing wrong
}

template <class T>
T* shifted(T* pointer) {
    return pointer + 1;
}
float* at(const Tensor& tensor, std::int64_t offset) { return tensor.data() + offset; }

using Forward = bnorm_training_forward_args;
using Backward = bnorm_backward_args;

} // namespace

TEST_CASE("problems") {
    struct BadProblem {
        const char* message;
        std::function<void(bnorm_problem&)> spoil;
    };
    const std::vector<BadProblem> table = {
        {"operation", [](bnorm_problem& p) { p.operation = -1; }},
        {"operation", [](bnorm_problem& p) { p.operation = BNORM_GRADIENT_APPLY + 1; }},
        {"data_type", [](bnorm_problem& p) { p.data_type = 1; }},
        {"layout", [](bnorm_problem& p) { p.layout = 2; }},
        {"layout", [](bnorm_problem& p) { p.layout = -7; }},
        {"activation", [](bnorm_problem& p) { p.activation = 4; }},
        {"residual", [](bnorm_problem& p) { p.residual = 2; }},
        {"batch", [](bnorm_problem& p) { p.batch = -1; }},
        {"channels", [](bnorm_problem& p) { p.channels = -1; }},
        {"spatial", [](bnorm_problem& p) { p.spatial = std::numeric_limits<std::int64_t>::min(); }},
        {"x_stride is -1", [](bnorm_problem& p) { p.x_stride = -1; }},
        {"x_stride", [](bnorm_problem& p) { p.x_stride = 3 * 4 - 1; }},
        {"y_stride", [](bnorm_problem& p) { p.y_stride = 1; }},
        {"residual_stride", [](bnorm_problem& p) { p.residual_stride = 11; }},
        {"overflow", [](bnorm_problem& p) { p.batch = kHuge; }},
        {"overflow", [](bnorm_problem& p) { p.batch = p.channels = std::int64_t{1} << 31; }},
        {"overflow", [](bnorm_problem& p) { p.spatial = kHuge / 8; }},
        {"overflow", [](bnorm_problem& p) { p.channels = kHuge, p.batch = 0; }},
        {"overflow", [](bnorm_problem& p) { p.x_stride = kHuge; }},
        {"epsilon", [](bnorm_problem& p) { p.epsilon = -1e-9; }},
        {"epsilon", [](bnorm_problem& p) { p.epsilon = kNaN; }},
        {"epsilon", [](bnorm_problem& p) { p.epsilon = kInf; }},
        {"slope", [](bnorm_problem& p) { p.activation = BNORM_LEAKY_RELU, p.activation_parameter = NAN; }},
        {"slope", [](bnorm_problem& p) { p.activation = BNORM_LEAKY_RELU, p.activation_parameter = INFINITY; }},
        {"bound", [](bnorm_problem& p) { p.activation = BNORM_CLIPPED_RELU, p.activation_parameter = 0.0F; }},
        {"bound", [](bnorm_problem& p) { p.activation = BNORM_CLIPPED_RELU, p.activation_parameter = NAN; }},
        {"threads", [](bnorm_problem& p) { p.threads = -1; }},
    };
    for (const bnorm_layout layout : kLayouts) {
        const bnorm_problem valid = problem_of(BNORM_INFERENCE, {layout, 2, 3, 4});
        for (const BadProblem& bad : table) {
            bnorm_problem problem = valid;
            bad.spoil(problem);
            if (layout == BNORM_NHWC && std::string(bad.message).find("stride") != std::string::npos &&
                problem.x_stride >= 0) {
                problem.x_stride = problem.x_stride == 0 ? 0 : 2; // a row has 3 elements here
                problem.y_stride = problem.y_stride == 0 ? 0 : 2;
                problem.residual_stride = problem.residual_stride == 0 ? 0 : 2;
            }
            auto* const untouched = reinterpret_cast<bnorm_plan*>(0x10);
            bnorm_plan* plan = untouched;
            INFO("layout ", layout, ", expected message: ", std::string(bad.message));
            CHECK(bnorm_plan_create(&problem, &plan) == BNORM_INVALID_ARGUMENT);
            INFO("message: ", std::string(bnorm_last_error()));
            CHECK(message_has(bad.message));
            CHECK(plan == untouched);
        }
    }
}

TEST_CASE("pointers to problems and plans") {
    for (const bnorm_layout layout : kLayouts) {
        const bnorm_problem valid = problem_of(BNORM_INFERENCE, {layout, 2, 3, 4});
        bnorm_plan* plan = nullptr;
        CHECK(bnorm_plan_create(&valid, nullptr) == BNORM_INVALID_ARGUMENT);
        CHECK(bnorm_plan_create(nullptr, &plan) == BNORM_INVALID_ARGUMENT);
        CHECK(plan == nullptr);
        REQUIRE_OK(bnorm_plan_create(&valid, &plan));
        bnorm_plan_info info = {};
        CHECK(bnorm_plan_get_info(plan, nullptr) == BNORM_INVALID_ARGUMENT);
        CHECK(bnorm_plan_get_info(nullptr, &info) == BNORM_INVALID_ARGUMENT);
        bnorm_plan_destroy(plan);
        bnorm_plan_destroy(nullptr);
    }
}

TEST_CASE("a problem that only just fits has a plan") {
    bnorm_problem problem = problem_of(BNORM_INFERENCE, {BNORM_NCHW, 1, 1, kHuge / 64});
    bnorm_plan* plan = nullptr;
    REQUIRE_OK(bnorm_plan_create(&problem, &plan));
    bnorm_plan_destroy(plan);
}

TEST_CASE("training forward") {
    const std::vector<BadArgument<Forward>> table = {
        {"x is NULL", [](Forward& a, Layer&) { a.x = nullptr; }},
        {"y is NULL", [](Forward& a, Layer&) { a.y = nullptr; }},
        {"residual is NULL", [](Forward& a, Layer&) { a.residual = nullptr; }},
        {"mask_bytes", [](Forward& a, Layer&) { --a.mask_bytes; }},
        {"mask_bytes", [](Forward& a, Layer&) { a.mask_bytes = 0; }},
        {"momentum", [](Forward& a, Layer&) { a.momentum = kNaN; }},
        {"momentum", [](Forward& a, Layer&) { a.momentum = -kInf; }},
        {"running_update", [](Forward& a, Layer&) { a.running_update = 3; }},
        {"batches_seen", [](Forward& a, Layer&) { a.running_update = BNORM_RUNNING_CUMULATIVE, a.batches_seen = -1; }},
        {"x and y overlap", [](Forward& a, Layer& l) { a.y = at(l.x, 1); }},
        {"x and y overlap", [](Forward& a, Layer& l) { a.x = at(l.y, 119); }},
        {"residual and y overlap", [](Forward& a, Layer& l) { a.y = at(l.residual, -119); }},
        {"overlap", [](Forward& a, Layer& l) { a.mean = l.inv_std.data(); }},
        {"overlap", [](Forward& a, Layer& l) { a.running_var = l.running_mean.data(); }},
        {"overlap", [](Forward& a, Layer& l) { a.running_mean = l.gamma.data(); }},
        {"overlap", [](Forward& a, Layer& l) { a.running_mean = at(l.x, 0); }},
        {"overlap", [](Forward& a, Layer& l) { a.mask = at(l.y, 0); }},
        {"overlap", [](Forward& a, Layer& l) { a.mean = reinterpret_cast<double*>(at(l.y, 60)); }},
        {"past the end of memory",
         // NOLINTNEXTLINE(performance-no-int-to-ptr): no object is there
         [](Forward& a, Layer&) { a.x = reinterpret_cast<const void*>(~std::uintptr_t{15}); }},
    };
    check_bad_arguments<Forward>(
        table, BNORM_TRAINING_FORWARD, [](Layer& l) { return l.forward_args(); }, bnorm_training_forward);
}

TEST_CASE("inference") {
    using Args = bnorm_inference_args;
    const std::vector<BadArgument<Args>> table = {
        {"x is NULL", [](Args& a, Layer&) { a.x = nullptr; }},
        {"y is NULL", [](Args& a, Layer&) { a.y = nullptr; }},
        {"residual is NULL", [](Args& a, Layer&) { a.residual = nullptr; }},
        {"mask_bytes", [](Args& a, Layer&) { a.mask_bytes = 1; }},
        {"overlap", [](Args& a, Layer& l) { a.y = at(l.x, 4); }},
        {"overlap", [](Args& a, Layer& l) { a.y = l.gamma.data(); }},
    };
    check_bad_arguments<Args>(
        table, BNORM_INFERENCE, [](Layer& l) { return l.inference_args(); }, bnorm_inference);
}

TEST_CASE("backward") {
    const std::vector<BadArgument<Backward>> table = {
        {"dy is NULL", [](Backward& a, Layer&) { a.dy = nullptr; }},
        {"x is NULL", [](Backward& a, Layer&) { a.x = nullptr; }},
        {"x is NULL", [](Backward& a, Layer&) { a.x = nullptr, a.dx = nullptr; }},
        {"mask is NULL", [](Backward& a, Layer&) { a.mask = nullptr; }},
        {"mask_bytes", [](Backward& a, Layer&) { a.mask_bytes = 3; }},
        {"no output", [](Backward& a, Layer&) { a.dx = a.dresidual = nullptr, a.dgamma = a.dbeta = nullptr; }},
        {"overlap", [](Backward& a, Layer& l) { a.dx = at(l.dy, 2); }},
        {"overlap", [](Backward& a, Layer&) { a.dresidual = a.dx; }},
        {"overlap", [](Backward& a, Layer& l) { a.dx = a.dresidual = at(l.dy, 0); }},
        {"overlap", [](Backward& a, Layer&) { a.dbeta = a.dgamma; }},
        {"overlap", [](Backward& a, Layer& l) { a.dgamma = shifted(l.gamma.data()); }},
        {"overlap", [](Backward& a, Layer& l) { a.dx = l.mask.data(); }},
    };
    const auto make = [](Layer& l) {
        l.run_forward(); // the mask, mean and inv_std
        return l.backward_args();
    };
    check_bad_arguments<Backward>(table, BNORM_BACKWARD, make, bnorm_backward);
}

TEST_CASE("backward with fixed statistics") {
    using Args = bnorm_backward_fixed_args;
    const std::vector<BadArgument<Args>> table = {
        {"dy is NULL", [](Args& a, Layer&) { a.dy = nullptr; }},
        {"x is NULL", [](Args& a, Layer&) { a.x = nullptr; }},
        {"mask is NULL", [](Args& a, Layer&) { a.mask = nullptr; }},
        {"no output", [](Args& a, Layer&) { a.dx = a.dresidual = nullptr, a.dgamma = a.dbeta = nullptr; }},
        {"overlap", [](Args& a, Layer& l) { a.dx = at(l.x, 2); }},
        {"overlap", [](Args& a, Layer& l) { a.dgamma = l.running_var.data(); }},
    };
    const auto make = [](Layer& l) {
        l.run_inference();
        return l.backward_fixed_args();
    };
    check_bad_arguments<Args>(table, BNORM_BACKWARD_FIXED, make, bnorm_backward_fixed);
}

TEST_CASE("building blocks with a plan") {
    using MomentsArgs = bnorm_moments_args;
    static double count = 0;
    check_bad_arguments<MomentsArgs>(
        {{"x is NULL", [](MomentsArgs& a, Layer&) { a.x = nullptr; }},
         {"count is NULL", [](MomentsArgs& a, Layer&) { a.count = nullptr; }},
         {"mean is NULL", [](MomentsArgs& a, Layer&) { a.mean = nullptr; }},
         {"m2 is NULL", [](MomentsArgs& a, Layer&) { a.m2 = nullptr; }},
         {"overlap", [](MomentsArgs& a, Layer&) { a.m2 = a.mean; }},
         {"overlap", [](MomentsArgs& a, Layer&) { a.count = a.mean + 2; }}},
        BNORM_MOMENTS,
        [](Layer& l) {
            return MomentsArgs{l.x.data(), &count, l.mean.data(), l.inv_std.data()};
        },
        bnorm_moments);

    using ApplyArgs = bnorm_apply_args;
    check_bad_arguments<ApplyArgs>(
        {{"x is NULL", [](ApplyArgs& a, Layer&) { a.x = nullptr; }},
         {"y is NULL", [](ApplyArgs& a, Layer&) { a.y = nullptr; }},
         {"mean is NULL", [](ApplyArgs& a, Layer&) { a.mean = nullptr; }},
         {"inv_std is NULL", [](ApplyArgs& a, Layer&) { a.inv_std = nullptr; }},
         {"residual is NULL", [](ApplyArgs& a, Layer&) { a.residual = nullptr; }},
         {"overlap", [](ApplyArgs& a, Layer& l) { a.y = l.mean.data(); }}},
        BNORM_APPLY,
        [](Layer& l) {
            l.run_forward();
            ApplyArgs args = {};
            args.x = l.x.data();
            args.residual = l.residual.data();
            args.mean = l.mean.data();
            args.inv_std = l.inv_std.data();
            args.y = l.y.data();
            return args;
        },
        bnorm_apply);
}

TEST_CASE("gradient building blocks") {
    static Buffer<double> sums(6);
    using SumsArgs = bnorm_gradient_sums_args;
    const auto make_sums = [](Layer& l) {
        l.run_forward();
        SumsArgs args = {};
        args.dy = l.dy.data();
        args.x = l.x.data();
        args.mean = l.mean.data();
        args.mask = l.mask.data();
        args.mask_bytes = l.mask.bytes();
        args.sum_dy = sums.data();
        args.sum_dy_centered_x = sums.data() + 3;
        return args;
    };
    check_bad_arguments<SumsArgs>(
        {{"dy is NULL", [](SumsArgs& a, Layer&) { a.dy = nullptr; }},
         {"x is NULL", [](SumsArgs& a, Layer&) { a.x = nullptr; }},
         {"mean is NULL", [](SumsArgs& a, Layer&) { a.mean = nullptr; }},
         {"is NULL", [](SumsArgs& a, Layer&) { a.mask = nullptr; }},
         {"sum_dy is NULL", [](SumsArgs& a, Layer&) { a.sum_dy = nullptr; }},
         {"sum_dy_centered_x is NULL", [](SumsArgs& a, Layer&) { a.sum_dy_centered_x = nullptr; }},
         {"overlap", [](SumsArgs& a, Layer&) { a.sum_dy = a.sum_dy_centered_x + 1; }}},
        BNORM_GRADIENT_SUMS, make_sums, bnorm_gradient_sums);

    using ApplyArgs = bnorm_gradient_apply_args;
    const auto make_apply = [&](Layer& l) {
        const SumsArgs from = make_sums(l);
        REQUIRE_OK(bnorm_gradient_sums(Plan(l.problem(BNORM_GRADIENT_SUMS)), &from));
        ApplyArgs args = {};
        args.dy = from.dy;
        args.x = from.x;
        args.mean = from.mean;
        args.inv_std = l.inv_std.data();
        args.sum_dy = from.sum_dy;
        args.sum_dy_centered_x = from.sum_dy_centered_x;
        args.count = 40.0;
        args.mask = from.mask;
        args.mask_bytes = from.mask_bytes;
        args.dx = l.dx.data();
        return args;
    };
    check_bad_arguments<ApplyArgs>({{"dy is NULL", [](ApplyArgs& a, Layer&) { a.dy = nullptr; }},
                                    {"inv_std is NULL", [](ApplyArgs& a, Layer&) { a.inv_std = nullptr; }},
                                    {"sum_dy is NULL", [](ApplyArgs& a, Layer&) { a.sum_dy = nullptr; }},
                                    {"count", [](ApplyArgs& a, Layer&) { a.count = 0.0; }},
                                    {"count", [](ApplyArgs& a, Layer&) { a.count = kNaN; }},
                                    {"count", [](ApplyArgs& a, Layer&) { a.count = -3.0; }},
                                    {"no output", [](ApplyArgs& a, Layer&) { a.dx = nullptr; }},
                                    {"overlap", [](ApplyArgs& a, Layer&) { a.dx = const_cast<double*>(a.sum_dy); }}},
                                   BNORM_GRADIENT_APPLY, make_apply, bnorm_gradient_apply);
}

TEST_CASE("statistics without a plan") {
    double mean[4] = {1, 2, 3, 4};
    double m2[4] = {5, 6, 7, 8};
    double count = -1;
    const auto refuses_merge = [&](double count_a, double count_b, std::int64_t channels, double* out) {
        const bnorm_moments_merge_args args = {channels, count_a, mean, m2, count_b, mean, m2, &count, out, m2};
        return bnorm_moments_merge(&args) == BNORM_INVALID_ARGUMENT && count == -1 && m2[0] == 5;
    };
    double other[4] = {};
    CHECK(refuses_merge(-1, 1, 4, other));
    CHECK(refuses_merge(kNaN, 1, 4, other));
    CHECK(refuses_merge(1, kInf, 4, other));
    CHECK(refuses_merge(1e308, 1e308, 4, other));
    CHECK(refuses_merge(1, 1, -4, other));
    CHECK(refuses_merge(1, 1, kHuge / 2, other));
    CHECK(refuses_merge(1, 1, 4, nullptr));
    CHECK(refuses_merge(1, 1, 3, mean + 1));
    CHECK(refuses_merge(1, 1, 4, m2));
    CHECK(bnorm_moments_merge(nullptr) == BNORM_INVALID_ARGUMENT);

    const auto refuses_finish = [&](auto spoil) {
        bnorm_moments_finish_args args = {};
        float running[4] = {};
        args.channels = 4;
        args.count = 10;
        args.mean = mean;
        args.m2 = m2;
        args.inv_std = other;
        args.running_mean = running;
        spoil(args);
        return bnorm_moments_finish(&args) == BNORM_INVALID_ARGUMENT && other[0] == 0 && running[0] == 0;
    };
    using Finish = bnorm_moments_finish_args;
    CHECK(refuses_finish([](Finish& a) { a.channels = -1; }));
    CHECK(refuses_finish([](Finish& a) { a.count = 0; }));
    CHECK(refuses_finish([](Finish& a) { a.count = kNaN; }));
    CHECK(refuses_finish([](Finish& a) { a.epsilon = -1; }));
    CHECK(refuses_finish([](Finish& a) { a.m2 = nullptr; }));
    CHECK(refuses_finish([](Finish& a) { a.mean = nullptr; }));
    CHECK(refuses_finish([](Finish& a) { a.momentum = kNaN; }));
    CHECK(refuses_finish([](Finish& a) { a.running_update = 9; }));
    CHECK(refuses_finish([](Finish& a) { a.inv_std = nullptr, a.running_mean = nullptr; }));
    CHECK(refuses_finish([&](Finish& a) { a.inv_std = m2 + 1; }));
    CHECK(refuses_finish([&](Finish& a) { a.variance = other; }));
    CHECK(bnorm_moments_finish(nullptr) == BNORM_INVALID_ARGUMENT);
}

TEST_CASE("folding without a plan") {
    const auto refuses_fold = [&](auto spoil) {
        bnorm_fold_args args = {};
        float scale[4] = {};
        float shift[4] = {};
        args.channels = 4;
        args.scale = scale;
        args.shift = shift;
        spoil(args);
        return bnorm_fold(&args) == BNORM_INVALID_ARGUMENT && scale[0] == 0 && shift[0] == 0;
    };
    using Fold = bnorm_fold_args;
    CHECK(refuses_fold([](Fold& a) { a.channels = -1; }));
    CHECK(refuses_fold([](Fold& a) { a.channels = kHuge; }));
    CHECK(refuses_fold([](Fold& a) { a.epsilon = kNaN; }));
    CHECK(refuses_fold([](Fold& a) { a.scale = nullptr; }));
    CHECK(refuses_fold([](Fold& a) { a.shift = nullptr; }));
    CHECK(refuses_fold([](Fold& a) { a.shift = a.scale; }));
    CHECK(refuses_fold([](Fold& a) { a.shift = a.scale + 3; }));
    CHECK(bnorm_fold(nullptr) == BNORM_INVALID_ARGUMENT);
}

TEST_CASE("folding into weights") {
    using Args = bnorm_fold_weights_args;
    const auto refuses = [&](auto spoil) {
        Args args = {};
        const float weights[24] = {};
        float folded[24] = {};
        float bias[4] = {};
        args.output_channels = 4;
        args.input_channels = 2;
        args.kernel_size = 3;
        args.weights = weights;
        args.folded_weights = folded;
        args.folded_bias = bias;
        spoil(args);
        return bnorm_fold_weights(&args) == BNORM_INVALID_ARGUMENT && folded[0] == 0 && bias[0] == 0;
    };
    CHECK(refuses([](Args& a) { a.layout = 4; }));
    CHECK(refuses([](Args& a) { a.layout = -1; }));
    CHECK(refuses([](Args& a) { a.output_channels = -4; }));
    CHECK(refuses([](Args& a) { a.input_channels = -2; }));
    CHECK(refuses([](Args& a) { a.kernel_size = -1; }));
    CHECK(refuses([](Args& a) { a.groups = -1; }));
    CHECK(refuses([](Args& a) { a.groups = 4; }));
    CHECK(refuses([](Args& a) { a.input_channels = kHuge; }));
    CHECK(refuses([](Args& a) { a.epsilon = -kInf; }));
    CHECK(refuses([](Args& a) { a.weights = nullptr; }));
    CHECK(refuses([](Args& a) { a.folded_weights = nullptr; }));
    CHECK(refuses([](Args& a) { a.folded_bias = nullptr; }));
    CHECK(refuses([](Args& a) { a.weights = a.folded_weights + 1; }));
    CHECK(refuses([](Args& a) { a.folded_bias = a.folded_weights; }));
    CHECK(bnorm_fold_weights(nullptr) == BNORM_INVALID_ARGUMENT);
}

TEST_CASE("channel slices of one array, side by side, do not overlap") {
    // Six channels of which bnorm reads the first three and writes the last three, pixel by pixel.
    std::vector<float> pixels(std::size_t{10} * 6, 1.0F);
    bnorm_problem problem = problem_of(BNORM_INFERENCE, {BNORM_NHWC, 2, 3, 5});
    problem.x_stride = problem.y_stride = 6;
    const Plan plan(problem);
    bnorm_inference_args args = {};
    args.x = pixels.data();
    args.y = pixels.data() + 3;
    const float beta[3] = {4.0F, 5.0F, 6.0F};
    args.beta = beta;
    REQUIRE_OK(bnorm_inference(plan, &args));
    CHECK(pixels[0] == 1.0F);
    CHECK(pixels[59] == doctest::Approx(7.0).epsilon(1e-4));
    args.y = pixels.data() + 2;
    CHECK(bnorm_inference(plan, &args) == BNORM_INVALID_ARGUMENT);
}

TEST_CASE("a mask without an activation, a residual without problem.residual") {
    Layer layer({.shape = kSetup.shape});
    bnorm_training_forward_args args = layer.forward_args();
    unsigned char mask[64];
    args.mask = mask;
    args.mask_bytes = sizeof mask;
    const Plan plan(layer.problem(BNORM_TRAINING_FORWARD));
    CHECK(bnorm_training_forward(plan, &args) == BNORM_INVALID_ARGUMENT);
    CHECK(message_has("no activation"));
    args = layer.forward_args();
    args.residual = layer.residual.data();
    CHECK(bnorm_training_forward(plan, &args) == BNORM_INVALID_ARGUMENT);
    CHECK(message_has("problem.residual is 0"));
}

TEST_CASE("the last error belongs to its thread and outlives successes") {
    CHECK(bnorm_fold(nullptr) == BNORM_INVALID_ARGUMENT);
    std::string of_other_thread = "unset";
    std::thread([&] { of_other_thread = bnorm_last_error(); }).join();
    CHECK(of_other_thread.empty());
    bnorm_isa isa = BNORM_ISA_AUTO;
    REQUIRE(bnorm_get_isa(&isa) == BNORM_OK);
    CHECK(message_has("bnorm_fold: args is NULL."));
}
