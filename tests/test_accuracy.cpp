// The promises of numbers: variance within 2e-7, output within 1e-6, for any |mean|/std up to 1e6 and any kind of data
// but channels of two values.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <functional>

#include "support.hpp"

using namespace tests;

namespace {

struct Statistics {
    explicit Statistics(std::int64_t channels) : mean(channels), m2(channels) {}
    double count = -1.0;
    Buffer<double> mean;
    Buffer<double> m2;
};

Statistics moments_of(const Tensor& x, int threads = 1) {
    bnorm_problem problem = problem_of(BNORM_MOMENTS, x.shape(), {}, false, threads);
    problem.x_stride = x.stride();
    Statistics result(x.shape().channels);
    const bnorm_moments_args args = {x.data(), &result.count, result.mean.data(), result.m2.data()};
    REQUIRE_OK(bnorm_moments(Plan(problem), &args));
    return result;
}

constexpr double kVarianceBound = 2e-7;
// Of channels that take two values only: their roundings do not average out. Found by search: 3.6e-7.
constexpr double kTwoValuesBound = 4e-7;

// Largest relative error of M2 over the channels, against long double on the same f32 data.
double worst_variance_error(const Tensor& x) {
    const Statistics got = moments_of(x);
    double worst = 0;
    for (std::int64_t c = 0; c < x.shape().channels; ++c) {
        const Moments expected = reference_moments(x, c);
        CHECK(got.m2[c] >= 0.0); // false for NaN as well
        if (expected.m2 > 0) {
            worst = std::max(worst,
                             static_cast<double>(std::fabs(static_cast<Real>(got.m2[c]) - expected.m2) / expected.m2));
        } else {
            CHECK(got.m2[c] == 0.0);
        }
    }
    return worst;
}

const Shape kShapes[] = {{BNORM_NCHW, 32, 16, 784}, {BNORM_NHWC, 32, 16, 784}, {BNORM_NCHW, 4, 24, 49},
                         {BNORM_NHWC, 4, 24, 49},   {BNORM_NCHW, 2, 5, 9000},  {BNORM_NHWC, 2, 5, 9000},
                         {BNORM_NHWC, 1, 1024, 48}, {BNORM_NCHW, 700, 40, 1},  {BNORM_NCHW, 60, 40, 6},
                         {BNORM_NHWC, 5, 300, 20}};

// A value for the i-th element of a channel of m elements.
struct Distribution {
    const char* name;
    std::function<double(Random&, double i, double m)> value;
};

const Distribution kDistributions[] = {
    {"normal", [](Random& r, double, double) { return r.normal(); }},
    {"uniform", [](Random& r, double, double) { return r.uniform(); }},
    {"two values", [](Random& r, double, double) { return r.uniform() < 0.3 ? 0.1 : 0.7; }},
    {"two values in turn", [](Random&, double i, double) { return std::fmod(i, 2.0) < 1.0 ? 1.0 / 3.0 : 1e-3; }},
    {"ramp", [](Random&, double i, double m) { return i / m; }},
    {"first eighth constant", [](Random& r, double i, double m) { return i < m / 8 ? 0.0 : 5.0 + r.normal(); }},
    {"step", [](Random&, double i, double m) { return i < m / 8 ? 0.1 : 0.9; }},
    {"sparse", [](Random& r, double, double) { return r.uniform() < 1.0 / 300 ? 1.0 + r.uniform() : 0.0; }},
    {"one outlier", [](Random& r, double i, double) { return i == 3.0 ? 1e6 : r.normal(); }},
    {"heavy tails", [](Random& r, double, double) { return std::tan(3.1 * (r.uniform() - 0.5)); }},
};

Tensor make(const Shape& shape, const Distribution& distribution, double scale, double offset) {
    Tensor x(shape);
    Random random(7);
    std::int64_t channel = -1;
    double index = 0;
    x.fill([&](std::int64_t c) {
        index = c == channel ? index + 1 : 0;
        channel = c;
        return static_cast<float>(offset +
                                  scale * distribution.value(random, index, static_cast<double>(shape.per_channel())));
    });
    return x;
}

} // namespace

TEST_CASE("variance within 2e-7 for every distribution and scale") {
    for (const Shape& shape : kShapes) {
        for (const Distribution& distribution : kDistributions) {
            for (const double scale : {1.0, 1e-3, 1e25, 1e-18, 1e-25, 1e-38}) {
                INFO("shape ", shape, ", ", std::string(distribution.name), ", scale ", scale);
                CHECK(worst_variance_error(make(shape, distribution, scale, 0.0)) <= kVarianceBound);
            }
        }
    }
}

// Summed in f64; from |mean|/std of about 2^10 on, around the mean, too.
TEST_CASE("variance of few elements within 3e-8 for |mean|/std from 0 to 1e6") {
    for (const Shape& shape :
         {Shape{BNORM_NCHW, 1, 27, 49}, Shape{BNORM_NCHW, 1, 27, 196}, Shape{BNORM_NCHW, 5, 27, 51},
          Shape{BNORM_NHWC, 1, 1100, 49}, Shape{BNORM_NHWC, 63, 523, 1}}) {
        for (const double k : {0.0, 1.0, 1e2, 7e2, 1.02e3, 1.03e3, 2e3, 1e4, 1e6, -1e6}) {
            for (const double scale : {1.0, 1e25, 1e-25}) {
                INFO("shape ", shape, ", mean/std ", k, ", scale ", scale);
                CHECK(worst_variance_error(make(shape, kDistributions[0], scale, k * scale)) <= 3e-8);
            }
        }
        for (const double value : {0.0, 0.1, -3e38, 1e-45}) {
            INFO("shape ", shape, ", all ", value);
            CHECK(worst_variance_error(make(shape, kDistributions[0], 0.0, value)) <= 0.0);
        }
    }
}

TEST_CASE("variance within 2e-7 and output within 1e-6 for |mean|/std from 0 to 1e6") {
    for (const Shape& shape : kShapes) {
        for (const double k : {0.0, 1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6, -1e6}) {
            INFO("shape ", shape, ", mean/std ", k);
            const Tensor x = make(shape, kDistributions[0], 1.0, k);
            CHECK(worst_variance_error(x) <= kVarianceBound);

            Tensor y(shape);
            bnorm_training_forward_args args = {};
            args.x = x.data();
            args.y = y.data();
            REQUIRE_OK(bnorm_training_forward(Plan(problem_of(BNORM_TRAINING_FORWARD, shape)), &args));
            Real worst = 0;
            for (std::int64_t c = 0; c < shape.channels; ++c) {
                const Moments moments = reference_moments(x, c);
                const Affine affine = reference_affine(
                    moments.mean, moments.m2 / static_cast<Real>(shape.per_channel()), kEpsilon, nullptr, nullptr, c);
                for (std::int64_t n = 0; n < shape.batch; ++n) {
                    for (std::int64_t s = 0; s < shape.spatial; ++s) {
                        const Real error = std::fabs(affine(x(n, c, s), 0) - static_cast<Real>(y(n, c, s)));
                        worst = std::max(worst, std::isnan(error) ? 1.0L : error);
                    }
                }
            }
            CHECK(static_cast<double>(worst) <= 1e-6);
        }
    }
}

// What two of them end with is one group: of 4, 5, 5 after a group of eight, 1 after one (elements a lane and plane).
const Shape kManyPlanes[] = {
    {BNORM_NCHW, 5, 1500, 49}, {BNORM_NCHW, 2, 1500, 80}, {BNORM_NCHW, 3, 1500, 196}, {BNORM_NCHW, 2, 1500, 144}};

TEST_CASE("channels of two values, whose roundings all go the same way: within 4e-7") {
    double share = 0, low = 0, high = 0;
    const Distribution two_values = {"two values, others in each channel", [&](Random& r, double i, double) {
                                         if (i == 0.0) {
                                             high = 4 * r.uniform();
                                             low = -high * (0.5 + r.uniform());
                                             share = 0.02 + 0.96 * r.uniform();
                                         }
                                         return r.uniform() < share ? high : low;
                                     }};
    for (const bnorm_layout layout : kLayouts) {
        for (const std::int64_t count : {64, 256, 1000}) {
            const Shape shape = {layout, 1, 4000, count};
            INFO("shape ", shape);
            CHECK(worst_variance_error(make(shape, two_values, 1.0, 0.0)) <= kTwoValuesBound);
        }
    }
    for (const Shape& shape : kManyPlanes) {
        INFO("shape ", shape);
        CHECK(worst_variance_error(make(shape, two_values, 1.0, 0.0)) <= kTwoValuesBound);
    }
}

TEST_CASE("many small channels: no unlucky one") {
    for (const std::int64_t count : {2, 3, 5, 8, 16, 31, 32, 40, 127, 130, 200}) {
        for (const bnorm_layout layout : kLayouts) {
            const Shape shape = {layout, 1, 3000, count};
            INFO("shape ", shape);
            CHECK(worst_variance_error(make(shape, kDistributions[0], 1.0, 0.3)) <= kVarianceBound);
            CHECK(worst_variance_error(make(shape, kDistributions[2], 1.0, 0.0)) <= kVarianceBound);
        }
    }
    for (const Shape& shape : kManyPlanes) {
        INFO("shape ", shape);
        CHECK(worst_variance_error(make(shape, kDistributions[0], 1.0, 0.3)) <= kVarianceBound);
        CHECK(worst_variance_error(make(shape, kDistributions[2], 1.0, 0.0)) <= kVarianceBound);
    }
}

TEST_CASE("data near the largest f32: finite statistics and output") {
    for (const Shape& shape : kShapes) {
        const Tensor x = make(shape, kDistributions[1], 6e38, -3e38);
        INFO("shape ", shape);
        CHECK(worst_variance_error(x) <= kVarianceBound);
        Tensor y(shape);
        bnorm_training_forward_args args = {};
        args.x = x.data();
        args.y = y.data();
        const std::vector<float> gamma(static_cast<std::size_t>(shape.channels), 0.0F);
        for (const float* scale : {static_cast<const float*>(nullptr), gamma.data()}) {
            args.gamma = scale;
            REQUIRE_OK(bnorm_training_forward(Plan(problem_of(BNORM_TRAINING_FORWARD, shape)), &args));
            const std::vector<float> values = y.values();
            CHECK(std::all_of(values.begin(), values.end(), [](float v) { return std::fabs(v) < 10.0F; }));
        }
    }
    // Mean and elements of opposite sign, whose difference exceeds FLT_MAX.
    Tensor x({BNORM_NCHW, 4, 2, 500});
    std::int64_t index = 0;
    x.fill([&](std::int64_t) { return index++ % 500 == 7 ? FLT_MAX : -1e36F; });
    Tensor y(x.shape());
    bnorm_training_forward_args args = {};
    args.x = x.data();
    args.y = y.data();
    REQUIRE_OK(bnorm_training_forward(Plan(problem_of(BNORM_TRAINING_FORWARD, x.shape())), &args));
    const std::vector<float> values = y.values();
    CHECK(std::all_of(values.begin(), values.end(), [](float v) { return std::fabs(v) < 100.0F; }));
}

TEST_CASE("a constant channel has exactly its value as mean, and variance 0") {
    const float constants[] = {0.0F,    -0.0F,   1.0F,     0.1F,    1.0F / 3.0F, 123456.789F,
                               -7e-12F, FLT_MAX, -FLT_MAX, FLT_MIN, 1e-40F,      1e-45F};
    for (const Shape& shape : kShapes) {
        for (const float constant : constants) {
            Tensor x(shape);
            x.fill([&](std::int64_t) { return constant; });
            const Statistics got = moments_of(x);
            INFO("shape ", shape, ", constant ", constant);
            for (std::int64_t c = 0; c < shape.channels; ++c) {
                REQUIRE(got.mean[c] == static_cast<double>(constant));
                REQUIRE(got.m2[c] == 0.0);
            }
        }
    }
    for (std::int64_t size = 1; size <= 70; ++size) {
        for (const bnorm_layout layout : kLayouts) {
            Tensor x({layout, 3, 5, size});
            x.fill([](std::int64_t c) { return 0.7F * static_cast<float>(c) - 1.1F; });
            const Statistics got = moments_of(x);
            for (std::int64_t c = 0; c < 5; ++c) {
                CHECK(got.mean[c] == static_cast<double>(x(0, c, 0)));
                CHECK(got.m2[c] == 0.0);
            }
        }
    }
}
