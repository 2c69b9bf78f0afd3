// Executions that begin with the last of their items, because those are nearer, give the same bits. The plans are made
// for a machine with little L2, so that small tensors are enough; and where the inputs are is said by evicting some.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../support.hpp"
#include "ops/backward.hpp"
#include "ops/forward.hpp"
#include "ops/moments.hpp"
#include "ops/residence.hpp"
#include "plan/geometry.hpp"
#include "plan/schedule.hpp"
#include "runtime/isa.hpp"
#include "runtime/workspace.hpp"

using namespace bnorm;
using tests::Buffer;
using tests::Shape;

namespace {

constexpr plan::Machine machine_of(int threads) { return {threads, 256 << 10, 8 << 20, 4 << 20, true}; }

template <class T>
void copy_bytes(const Buffer<T>& from, std::vector<unsigned char>& to) {
    const std::vector<unsigned char> bytes = from.snapshot();
    to.insert(to.end(), bytes.begin(), bytes.end());
}

// All arrays that some operation reads or writes.
struct Arrays {
    explicit Arrays(const Shape& shape)
        : x(shape.elements()), dy(shape.elements()), residual(shape.elements()), y(shape.elements()),
          dx(shape.elements()), dresidual(shape.elements()), running_mean(shape.channels), running_var(shape.channels),
          dgamma(shape.channels), dbeta(shape.channels), mean(shape.channels), second(shape.channels),
          mask(shape.elements() + shape.rows()) { // more than enough
        tests::Random random(7);
        for (const Buffer<float>* values : {&x, &dy, &residual}) {
            std::generate(values->begin(), values->end(), [&] { return static_cast<float>(random.nearly_normal()); });
        }
        std::fill(running_mean.begin(), running_mean.end(), 0.25F);
        std::fill(running_var.begin(), running_var.end(), 2.0F);
        std::fill(mean.begin(), mean.end(), 0.25);
        std::fill(second.begin(), second.end(), 0.75);
        std::fill(mask.begin(), mask.end(), std::uint8_t{0x5A});
    }

    std::vector<unsigned char> outputs() const {
        std::vector<unsigned char> all;
        for (const Buffer<float>* values : {&y, &dx, &dresidual, &running_mean, &running_var, &dgamma, &dbeta}) {
            copy_bytes(*values, all);
        }
        copy_bytes(mean, all);
        copy_bytes(second, all);
        copy_bytes(mask, all);
        return all;
    }

    Buffer<float> x, dy, residual, y, dx, dresidual, running_mean, running_var, dgamma, dbeta;
    Buffer<double> mean, second; // inv_std or m2
    Buffer<std::uint8_t> mask;
};

struct Operation {
    bnorm_operation kind;
    bool residual;
    plan::Workload workload; // as api/plan.cpp describes it
};

constexpr Operation kOperations[] = {
    {BNORM_INFERENCE, false, {0, true, 3, 1, 2, true}}, {BNORM_TRAINING_FORWARD, false, {1, true, 3, 1, 2}},
    {BNORM_TRAINING_FORWARD, true, {1, true, 3, 1, 3}}, {BNORM_BACKWARD, false, {2, true, 5, 2, 3}},
    {BNORM_BACKWARD, true, {2, true, 5, 2, 4}},         {BNORM_BACKWARD_FIXED, false, {1, true, 5, 2, 3, false, true}},
    {BNORM_MOMENTS, false, {1, false, 0, 1, 1}}};

void run(const ops::Execution& execution, Arrays& arrays) {
    const bool residual = execution.problem.residual != 0;
    std::uint8_t* mask = residual ? arrays.mask.data() : nullptr;
    const std::size_t mask_bytes = residual ? arrays.mask.bytes() : 0;
    if (execution.problem.operation == BNORM_INFERENCE) {
        bnorm_inference_args args = {};
        args.x = arrays.x.data();
        args.running_mean = arrays.running_mean.data();
        args.running_var = arrays.running_var.data();
        args.y = arrays.y.data();
        ops::inference(execution, args);
    } else if (execution.problem.operation == BNORM_TRAINING_FORWARD) {
        bnorm_training_forward_args args = {};
        args.x = arrays.x.data();
        args.residual = residual ? arrays.residual.data() : nullptr;
        args.running_mean = arrays.running_mean.data();
        args.running_var = arrays.running_var.data();
        args.momentum = 0.1;
        args.y = arrays.y.data();
        args.mask = mask;
        args.mask_bytes = mask_bytes;
        args.mean = arrays.mean.data();
        args.inv_std = arrays.second.data();
        ops::training_forward(execution, args);
    } else if (execution.problem.operation == BNORM_BACKWARD) {
        bnorm_backward_args args = {};
        args.dy = arrays.dy.data();
        args.x = arrays.x.data();
        args.mean = arrays.mean.data();
        args.inv_std = arrays.second.data();
        args.mask = mask;
        args.mask_bytes = mask_bytes;
        args.dx = arrays.dx.data();
        args.dresidual = residual ? arrays.dresidual.data() : nullptr;
        args.dgamma = arrays.dgamma.data();
        args.dbeta = arrays.dbeta.data();
        ops::backward(execution, args);
    } else if (execution.problem.operation == BNORM_BACKWARD_FIXED) {
        bnorm_backward_fixed_args args = {};
        args.dy = arrays.dy.data();
        args.x = arrays.x.data();
        args.running_mean = arrays.running_mean.data();
        args.running_var = arrays.running_var.data();
        args.dx = arrays.dx.data();
        args.dgamma = arrays.dgamma.data();
        args.dbeta = arrays.dbeta.data();
        ops::backward_fixed(execution, args);
    } else {
        double count = 0.0;
        ops::moments(execution, {arrays.x.data(), &count, arrays.mean.data(), arrays.second.data()});
    }
}

// The rest is in a cache: of tensors of less than 1 MiB, in L2. Hardware fetches lines next to those that are read.
void leave_end(const Buffer<float>& tensor) {
    constexpr std::int64_t kEvicted = 2048;
    constexpr std::int64_t kLeft = kEvicted + 64;
    tests::evict(tensor.data(), kEvicted);
    tests::fetch(tensor.data() + kLeft, tensor.size() - kLeft);
}

struct Result {
    bool from_end;
    std::vector<unsigned char> outputs;
};

bnorm_problem problem_of(const Operation& operation, const Shape& shape) {
    const tests::Activation activation = {operation.residual ? BNORM_RELU : BNORM_IDENTITY, 0.0F};
    return tests::problem_of(operation.kind, shape, activation, operation.residual);
}

// `place` says where inputs are, just before.
template <class Place>
Result result_of(const Operation& operation, const Shape& shape, int threads, bool may_begin_at_end,
                 const Place& place) {
    const bnorm_problem problem = problem_of(operation, shape);
    const plan::Geometry geometry = plan::make_geometry(problem);
    plan::Schedule schedule = plan::make_schedule(geometry, operation.workload, machine_of(threads));
    schedule.finds_nearer_end = may_begin_at_end;
    schedule.probes = false; // what is taken to be in memory is not asked; another test's business
    runtime::WorkspacePool workspaces(static_cast<std::size_t>(schedule.scratch_bytes));
    const runtime::Workspace workspace(workspaces);
    const runtime::Threads of = {schedule.threads, {}};
    Arrays arrays(shape);
    place(arrays);
    ops::Passes passes = {geometry, schedule, runtime::kernel_table(runtime::current_isa()), of, workspace.data()};
    run({problem, passes}, arrays);
    return {passes.from_end, arrays.outputs()};
}

constexpr int kAttempts = 50;

// Whether it began at the end in one of some attempts: a thread that is interrupted takes that for a far cache.
bool is_same_from_end(const Operation& operation, const Shape& shape, int threads) {
    const bool backward = operation.kind == BNORM_BACKWARD || operation.kind == BNORM_BACKWARD_FIXED;
    const auto leave_ends = [&](const Arrays& arrays) { leave_end(backward ? arrays.dy : arrays.x); };
    const std::vector<unsigned char> expected = result_of(operation, shape, threads, false, leave_ends).outputs;
    for (int i = 0; i < kAttempts; ++i) {
        const Result result = result_of(operation, shape, threads, true, leave_ends);
        CHECK(result.outputs == expected);
        if (result.from_end) {
            return true;
        }
    }
    return false;
}

} // namespace

TEST_CASE("inputs whose end is nearer are taken from there: the same bits") {
    // Planes of one image and of several, short ones, those that share cache lines, a large one; pixels as rows, joined
    // pixels, and several blocks of them.
    for (const Shape& shape :
         {Shape{BNORM_NCHW, 1, 64, 1024}, Shape{BNORM_NCHW, 8, 32, 784}, Shape{BNORM_NCHW, 8, 96, 64},
          Shape{BNORM_NCHW, 4, 640, 49}, Shape{BNORM_NCHW, 1, 3, 40000}, Shape{BNORM_NCHW, 1, 1, 200000},
          Shape{BNORM_NHWC, 1, 64, 3000}, Shape{BNORM_NHWC, 2, 17, 4001}, Shape{BNORM_NHWC, 1, 256, 700},
          Shape{BNORM_NHWC, 1, 2048, 98}}) {
        for (const Operation& operation : kOperations) {
            for (const int threads : {1, 2}) {
                INFO("shape ", shape, ", operation ", operation.kind, ", threads ", threads);
                CHECK(is_same_from_end(operation, shape, threads));
            }
        }
    }
}

// Of items that are not whole halves, another thread has what is left to the middle.
TEST_CASE("of two threads the end of the items that the caller begins with is asked") {
    constexpr Operation kMoments = {BNORM_MOMENTS, false, {1, false, 0, 1, 1}};
    constexpr std::int64_t kChannels = 64;
    constexpr std::int64_t kAsked = 2048; // lines that are asked are not farther from an end
    Shape shape = {BNORM_NHWC, 1, kChannels, 1280};
    std::int64_t end = 0; // of the share, in elements
    for (; shape.spatial < 20000; shape.spatial += 256) {
        const plan::Geometry geometry = plan::make_geometry(problem_of(kMoments, shape));
        const plan::Schedule schedule = plan::make_schedule(geometry, kMoments.workload, machine_of(2));
        end = schedule.parts / 2 * schedule.blocks_per_part * geometry.grid.rows_per_block * kChannels;
        // Near the middle, so that what is evicted from there on is little.
        if (schedule.threads == 2 && schedule.parts % 2 == 1 && end > shape.elements() * 3 / 8 + kAsked) {
            break;
        }
    }
    REQUIRE(end + kAsked < shape.elements() / 2);
    const auto times_from_end = [&](const auto& place) {
        int times = 0;
        for (int i = 0; i < kAttempts; ++i) {
            times += result_of(kMoments, shape, 2, true, place).from_end ? 1 : 0;
        }
        return times;
    };
    const int without_middle = times_from_end([&](const Arrays& arrays) {
        leave_end(arrays.x);
        tests::evict(arrays.x.data() + end, shape.elements() / 2 - end);
    });
    const int without_end = times_from_end([&](const Arrays& arrays) {
        tests::evict(arrays.x.data() + end - kAsked, kAsked);
        tests::fetch(arrays.x.data(), kAsked);
    });
    CHECK(without_middle > kAttempts / 2);
    CHECK(without_end < kAttempts / 2);
}
