// The same bits whatever the number of threads, the placement in memory, the arena, the concurrency, AVX2 or AVX-512.
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <thread>

#include "layer.hpp"

using namespace tests;

namespace {

// Everything that one training step and one frozen step write.
struct Outputs {
    std::vector<float> y, dx, dresidual, frozen_y, frozen_dx;
    std::vector<unsigned char> mean, inv_std, running_mean, running_var, dgamma, dbeta, frozen_dgamma, mask;

    bool operator==(const Outputs& other) const {
        return same_bits(y, other.y) && same_bits(dx, other.dx) && same_bits(dresidual, other.dresidual) &&
               same_bits(frozen_y, other.frozen_y) && same_bits(frozen_dx, other.frozen_dx) && mean == other.mean &&
               inv_std == other.inv_std && running_mean == other.running_mean && running_var == other.running_var &&
               dgamma == other.dgamma && dbeta == other.dbeta && frozen_dgamma == other.frozen_dgamma &&
               mask == other.mask;
    }
};

// Of what is reduced, before each operation.
enum class Residence { as_it_is, memory };

Outputs run(const Setup& setup, Residence residence = Residence::as_it_is) {
    Layer layer(setup);
    const auto place_inputs = [&] {
        if (residence == Residence::memory) {
            layer.x.evict();
            layer.dy.evict();
        }
    };
    Tensor x(setup.shape);
    Tensor dy(setup.shape);
    x.copy_from(layer.x);
    dy.copy_from(layer.dy);
    Outputs out;
    place_inputs();
    layer.run_forward();
    out.y = (setup.in_place ? layer.x : layer.y).values();
    out.mask = setup.mask ? layer.mask.snapshot() : std::vector<unsigned char>();
    out.mean = layer.mean.snapshot();
    out.inv_std = layer.inv_std.snapshot();
    out.running_mean = layer.running_mean.snapshot();
    out.running_var = layer.running_var.snapshot();
    layer.x.copy_from(x);
    place_inputs();
    layer.run_backward();
    out.dx = (setup.in_place ? layer.dy : layer.dx).values();
    out.dresidual = setup.residual ? layer.dresidual.values() : std::vector<float>();
    out.dgamma = layer.dgamma.snapshot();
    out.dbeta = layer.dbeta.snapshot();
    layer.dy.copy_from(dy);
    place_inputs();
    layer.run_inference();
    out.frozen_y = (setup.in_place ? layer.x : layer.y).values();
    layer.x.copy_from(x);
    place_inputs();
    layer.run_backward_fixed();
    out.frozen_dx = (setup.in_place ? layer.dy : layer.dx).values();
    out.frozen_dgamma = layer.dgamma.snapshot();
    return out;
}

struct FrozenGradients {
    std::vector<float> dx;
    std::vector<unsigned char> dgamma, dbeta;
    bool operator==(const FrozenGradients& other) const {
        return same_bits(dx, other.dx) && dgamma == other.dgamma && dbeta == other.dbeta;
    }
};

FrozenGradients frozen_gradients(const Setup& setup, bool one_by_one, Residence residence = Residence::as_it_is) {
    Layer layer(setup);
    Tensor x(setup.shape);
    x.copy_from(layer.x);
    layer.run_inference();
    layer.x.copy_from(x);
    if (residence == Residence::memory) {
        layer.x.evict();
        layer.dy.evict();
    }
    const bnorm_backward_fixed_args all = layer.backward_fixed_args();
    bnorm_backward_fixed_args args = all;
    const Plan plan(layer.problem(BNORM_BACKWARD_FIXED));
    if (one_by_one) {
        args.dx = nullptr;
        REQUIRE_OK(bnorm_backward_fixed(plan, &args));
        args = all;
        args.dgamma = args.dbeta = nullptr;
    }
    REQUIRE_OK(bnorm_backward_fixed(plan, &args));
    return {(setup.in_place ? layer.dy : layer.dx).values(), layer.dgamma.snapshot(), layer.dbeta.snapshot()};
}

// One of each path: long and short planes, few channels with large planes, one of them of more blocks than a kernel
// sums at once, planes of one image, columns narrow and wide, joined pixels.
std::vector<Shape> shapes() {
    return {{BNORM_NCHW, 8, 32, 784},   {BNORM_NCHW, 16, 96, 49},   {BNORM_NCHW, 2, 3, 40000},
            {BNORM_NCHW, 1, 1, 200000}, {BNORM_NCHW, 3000, 70, 1},  {BNORM_NCHW, 700, 30, 9},
            {BNORM_NHWC, 8, 64, 784},   {BNORM_NHWC, 4, 1100, 49},  {BNORM_NHWC, 2, 3, 40001},
            {BNORM_NHWC, 2, 17, 9001},  {BNORM_NHWC, 1, 1, 200003}, {BNORM_NHWC, 64, 2048, 1},
            {BNORM_NCHW, 200, 40, 49},  {BNORM_NCHW, 9, 64, 16},    {BNORM_NCHW, 3, 2, 100000},
            {BNORM_NCHW, 1, 181, 784},  {BNORM_NCHW, 1, 1301, 100}};
}

Setup fused(const Shape& shape) {
    return {.shape = shape, .activation = {BNORM_RELU, 0.0F}, .residual = true, .mask = true};
}

void set_isa(bnorm_isa isa) { REQUIRE_OK(bnorm_set_isa(isa)); }

std::vector<float> rows_apart(const std::vector<float>& dense, std::int64_t columns, std::int64_t stride) {
    std::vector<float> apart(dense.size() / static_cast<std::size_t>(columns) * static_cast<std::size_t>(stride));
    for (std::size_t i = 0; i < dense.size(); ++i) {
        const std::size_t row = i / static_cast<std::size_t>(columns);
        apart[row * static_cast<std::size_t>(stride) + i % static_cast<std::size_t>(columns)] = dense[i];
    }
    return apart;
}

struct GradientSums {
    std::vector<double> dy, products;
    bool operator==(const GradientSums&) const = default;
};

class GradientSumsInput {
  public:
    explicit GradientSumsInput(const Shape& shape)
        : shape_(shape), columns_(shape.channels * (shape.layout == BNORM_NCHW ? shape.spatial : 1)) {
        const std::int64_t elements = shape.batch * shape.channels * shape.spatial;
        Random random(8);
        const auto fill = [&](auto& values, std::int64_t count, double first) {
            values.resize(static_cast<std::size_t>(count));
            for (auto& value : values) {
                value = static_cast<float>(first + random.uniform() / 2);
            }
        };
        fill(x_, elements, 0.0);
        fill(dy_, elements, -0.25);
        fill(mean_, shape.channels, 0.0);
        fill(inv_std_, shape.channels, 1.0);
    }

    // Rows (of pixels or images) `gap` elements apart.
    GradientSums sums(std::int64_t gap, bnorm_activation activation) const {
        const std::int64_t stride = columns_ + gap;
        const std::vector<float> x = rows_apart(x_, columns_, stride);
        const std::vector<float> dy = rows_apart(dy_, columns_, stride);
        bnorm_problem problem = problem_of(BNORM_GRADIENT_SUMS, shape_);
        problem.x_stride = problem.y_stride = stride;
        problem.activation = activation;
        GradientSums result = {std::vector<double>(mean_.size()), std::vector<double>(mean_.size())};
        bnorm_gradient_sums_args args = {};
        args.dy = dy.data();
        args.x = x.data();
        args.mean = mean_.data();
        args.inv_std = inv_std_.data();
        args.sum_dy = result.dy.data();
        args.sum_dy_centered_x = result.products.data();
        REQUIRE_OK(bnorm_gradient_sums(Plan(problem), &args));
        return result;
    }

  private:
    Shape shape_;
    std::int64_t columns_;
    std::vector<float> x_;
    std::vector<float> dy_;
    std::vector<double> mean_;
    std::vector<double> inv_std_;
};

} // namespace

TEST_CASE("1, 2, 3, 7 and 16 threads give the same bits") {
    for (const Shape& shape : shapes()) {
        for (Setup setup : {Setup{.shape = shape}, fused(shape)}) {
            INFO("shape ", shape);
            setup.threads = 1;
            const Outputs expected = run(setup);
            for (const int threads : {2, 3, 7, 16}) {
                INFO("threads ", threads);
                setup.threads = threads;
                CHECK(run(setup) == expected);
            }
        }
    }
}

TEST_CASE("repeating, moving and in place give the same bits") {
    for (const Shape& shape : shapes()) {
        INFO("shape ", shape);
        Setup setup = fused(shape);
        setup.threads = 2;
        const Outputs expected = run(setup);
        CHECK(run(setup) == expected);
        setup.in_place = true;
        CHECK(run(setup) == expected);
        setup.in_place = false;
        for (const Placement placement : kPlacements) {
            setup.placement = placement;
            CHECK(run(setup) == expected);
        }
    }
}

// Executions find out, and fetch ahead what comes from memory.
TEST_CASE("whether tensors are in cache or in memory changes no bits") {
    std::vector<Shape> all;
    for (const std::int64_t channels : {3, 64, 100, 128, 256, 512, 1024, 2048}) {
        all.push_back({BNORM_NHWC, 5, channels, 16384 / channels});
    }
    for (const std::int64_t plane : {96, 100, 784, 3136}) {
        all.push_back({BNORM_NCHW, 5, 16384 / plane, plane});
    }
    for (const Shape& shape : all) {
        for (const Setup& setup : {Setup{.shape = shape}, fused(shape)}) {
            INFO("shape ", shape);
            CHECK(run(setup, Residence::memory) == run(setup));
        }
    }
}

// Asked for together, dx and the parameters' gradients are computed in one pass by other kernels, where pixels are rows
// and of planes of whole vectors; dx alone in another order.
TEST_CASE("frozen backward: together or one by one, the same bits") {
    std::vector<Shape> all = {{BNORM_NHWC, 1, 64, 28003}}; // stored past a cache of 32 MiB
    for (const std::int64_t channels : {3, 17, 64, 100, 256, 512, 700, 1024}) {
        all.push_back({BNORM_NHWC, 5, channels, 16391 / channels});
    }
    all.push_back({BNORM_NCHW, 5, 70, 12544});
    for (const std::int64_t plane : {49, 96, 100, 784, 3025, 3136, 40000}) {
        all.push_back({BNORM_NCHW, 5, 40000 / plane, plane});
    }
    for (const Shape& shape : all) {
        const Setup with_mask = {.shape = shape, .activation = {BNORM_RELU, 0.0F}, .mask = true};
        Setup without_mask = with_mask;
        without_mask.mask = false;
        for (Setup setup : {Setup{.shape = shape}, with_mask, without_mask}) {
            INFO("shape ", shape, ", activation ", setup.activation.kind, ", mask ", setup.mask);
            const FrozenGradients expected = frozen_gradients(setup, true);
            CHECK(frozen_gradients(setup, false) == expected);
            CHECK(frozen_gradients(setup, false, Residence::memory) == expected);
            setup.in_place = true;
            setup.threads = 2;
            CHECK(frozen_gradients(setup, false) == expected);
        }
    }
}

// A stride may change how pixels are joined into rows, hence the order of sums; where it cannot, it changes nothing.
TEST_CASE("strides change no bits of planes and of wide pixels") {
    for (const Shape& shape : shapes()) {
        if (shape.layout == BNORM_NHWC && shape.channels < 512) {
            continue;
        }
        INFO("shape ", shape);
        Setup setup = fused(shape);
        setup.mask = setup.residual = false;
        const Outputs expected = run(setup);
        setup.gap = 5;
        CHECK(run(setup) == expected);
    }
}

TEST_CASE("AVX2 and AVX-512 give the same bits") {
    bnorm_isa isa = BNORM_ISA_AUTO;
    REQUIRE_OK(bnorm_get_isa(&isa));
    if (isa != BNORM_ISA_AVX512) {
        MESSAGE("compared where AVX-512 is chosen or the best there is");
        return;
    }
    std::vector<Shape> all = shapes();
    for (std::int64_t size = 1; size <= 70; ++size) {
        all.push_back({BNORM_NCHW, 3, 5, size});
        all.push_back({BNORM_NHWC, 3, size, 20});
    }
    // From memory, if the last-level cache has at most 32 MiB: AVX-512 sums gradients of rows of 64 columns in the
    // order of memory, AVX2 never; the last pixels are not a row.
    const Shape large = {BNORM_NHWC, 1, 16, 140002};
    all.push_back(large);
    for (const Shape& shape : all) {
        for (const Activation& activation : kActivations) {
            for (const bool residual : {false, true}) {
                if (shape.spatial == large.spatial && residual && activation.kind != BNORM_RELU) {
                    continue; // takes long
                }
                INFO("shape ", shape, ", activation ", activation.kind);
                const Setup setup = {.shape = shape,
                                     .activation = activation,
                                     .residual = residual,
                                     .mask = activation.kind != BNORM_IDENTITY,
                                     .mean = 100.0};
                set_isa(BNORM_ISA_AVX2);
                const Outputs expected = run(setup);
                set_isa(BNORM_ISA_AVX512);
                CHECK(run(setup) == expected);
                set_isa(BNORM_ISA_AUTO);
            }
        }
    }
}

TEST_CASE("inside the caller's own arena of one or two threads: the same bits") {
    for (const Shape& shape : {Shape{BNORM_NCHW, 8, 32, 784}, Shape{BNORM_NHWC, 8, 64, 784}}) {
        Setup setup = fused(shape);
        setup.threads = 0;
        const Outputs expected = run(setup);
        for (const int concurrency : {1, 2}) {
            tbb::task_arena arena(concurrency);
            Outputs inside;
            arena.execute([&] {
                CHECK(bnorm_thread_count() == concurrency);
                inside = run(setup);
            });
            CHECK(inside == expected);
        }
    }
}

TEST_CASE("one plan, executed by eight threads at once") {
    for (const Shape& shape :
         {Shape{BNORM_NCHW, 8, 32, 784}, Shape{BNORM_NHWC, 8, 64, 784}, Shape{BNORM_NCHW, 2, 4, 9}}) {
        const Layer layer({.shape = shape, .threads = 2});
        const Plan plan(layer.problem(BNORM_TRAINING_FORWARD));
        const auto execute = [&](const Tensor& y) {
            bnorm_training_forward_args args = {};
            args.x = layer.x.data();
            args.y = y.data();
            return bnorm_training_forward(plan, &args);
        };
        const Tensor expected(shape);
        REQUIRE_OK(execute(expected));
        constexpr int kCallers = 8;
        std::vector<Tensor> outputs;
        outputs.reserve(kCallers);
        for (int i = 0; i < kCallers; ++i) {
            outputs.emplace_back(shape);
        }
        std::vector<int> failures(kCallers, 0);
        std::vector<std::thread> callers;
        for (std::size_t i = 0; i < kCallers; ++i) {
            callers.emplace_back([&, i] {
                for (int repeat = 0; repeat < 20; ++repeat) {
                    outputs[i].fill([](std::int64_t) { return -1.0F; });
                    failures[i] += execute(outputs[i]) == BNORM_OK ? 0 : 1;
                    failures[i] += same_bits(outputs[i].values(), expected.values()) ? 0 : 1;
                }
            });
        }
        for (std::thread& caller : callers) {
            caller.join();
        }
        CHECK(failures == std::vector<int>(kCallers, 0));
    }
}

// Rows multiples of a page apart are summed along the rows, others in panels of columns, by 8, 16 or 32 rows in f32.
TEST_CASE("moments have the same bits however far rows are apart") {
    constexpr std::int64_t kChannels = 300;
    for (const std::int64_t rows : {40, 64, 100, 256, 300, 511, 512, 777}) {
        for (const std::int64_t stride : {kChannels + 5, std::int64_t{1024}, std::int64_t{1100}}) {
            INFO("rows ", rows, ", stride ", stride);
            Random random(7);
            std::vector<float> dense(static_cast<std::size_t>(rows * kChannels));
            std::generate(dense.begin(), dense.end(), [&] { return static_cast<float>(random.uniform()); });
            const std::vector<float> apart = rows_apart(dense, kChannels, stride);
            bnorm_problem problem = problem_of(BNORM_MOMENTS, {BNORM_NHWC, rows, kChannels, 1});
            std::vector<double> mean(kChannels), m2(kChannels), other_mean(kChannels), other_m2(kChannels);
            double count = 0;
            const bnorm_moments_args args = {dense.data(), &count, mean.data(), m2.data()};
            REQUIRE_OK(bnorm_moments(Plan(problem), &args));
            problem.x_stride = stride;
            const bnorm_moments_args other = {apart.data(), &count, other_mean.data(), other_m2.data()};
            REQUIRE_OK(bnorm_moments(Plan(problem), &other));
            CHECK(mean == other_mean);
            CHECK(m2 == other_m2);
        }
    }
}

// Likewise; with a gate, its parameters are of each column, too. The last two are larger than a last-level cache of 32
// MiB: dense, they are summed in the order of memory.
TEST_CASE("gradient sums have the same bits however far rows are apart") {
    const std::int64_t sizes[][2] = {{7, 300}, {40, 300}, {100, 300}, {513, 300}, {69001, 64}, {18501, 240}};
    for (const auto& size : sizes) {
        const std::int64_t rows = size[0];
        const std::int64_t channels = size[1];
        const GradientSumsInput input({BNORM_NHWC, rows, channels, 1});
        for (const bnorm_activation activation : {BNORM_IDENTITY, BNORM_RELU}) {
            INFO("rows ", rows, ", channels ", channels, ", activation ", activation);
            const GradientSums dense = input.sums(0, activation);
            CHECK((dense == input.sums(12, activation)));
            if (rows < 1000) {
                CHECK((dense == input.sums(1024 - channels, activation)));
                CHECK((dense == input.sums(1100 - channels, activation)));
            }
        }
    }
}

// Short planes of several images are summed along the images, in wider pieces where those are multiples of a page
// apart.
TEST_CASE("gradient sums have the same bits however far images are apart") {
    for (const Shape& shape :
         {Shape{BNORM_NCHW, 13, 37, 49}, Shape{BNORM_NCHW, 16, 50, 31}, Shape{BNORM_NCHW, 3, 37, 49}}) {
        const GradientSumsInput input(shape);
        const std::int64_t row = shape.channels * shape.spatial;
        for (const bnorm_activation activation : {BNORM_IDENTITY, BNORM_RELU}) {
            INFO("shape ", shape, ", activation ", activation);
            const GradientSums dense = input.sums(0, activation);
            CHECK((dense == input.sums(5, activation)));
            CHECK((dense == input.sums(1024 - row % 1024, activation)));
        }
    }
}
