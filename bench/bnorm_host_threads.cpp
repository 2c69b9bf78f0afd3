// What a process that also runs OpenMP pays: training forward after an OpenMP region, on oneTBB's threads and on
// OpenMP's own (bnorm_parallel_for). Run it with OMP_WAIT_POLICY=active and =passive.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <bnorm/bnorm.h>
#include <omp.h>

#include "case.hpp"

namespace {

using Clock = std::chrono::steady_clock;

const bench::Shape kShapes[] = {bench::resnet50("conv4", 8), bench::resnet50("conv3", 8), bench::resnet50("conv2", 32)};

void run_on_openmp(void*, std::int32_t count, bnorm_task task, void* argument) {
#pragma omp parallel for schedule(static, 1) num_threads(count)
    for (std::int32_t i = 0; i < count; ++i) {
        task(argument, i);
    }
}

// As an engine's own operator between two batch norms: it wakes OpenMP's threads, which then wait for the next region.
void other_operator(std::vector<float>& data) {
    float* values = data.data();
    const auto count = static_cast<std::int64_t>(data.size());
#pragma omp parallel for schedule(static)
    for (std::int64_t i = 0; i < count; ++i) {
        values[i] = values[i] * 0.5F + 1.0F;
    }
}

double median_microseconds(const bnorm_plan* plan, const bnorm_training_forward_args& args, bool between) {
    std::vector<float> data(1 << 16, 1.0F);
    std::vector<double> times;
    for (int i = 0; i < 201; ++i) {
        if (between) {
            other_operator(data);
        }
        const Clock::time_point start = Clock::now();
        if (bnorm_training_forward(plan, &args) != BNORM_OK) {
            std::fprintf(stderr, "%s\n", bnorm_last_error());
            std::exit(1);
        }
        times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    }
    std::nth_element(times.begin(), times.begin() + 100, times.end());
    return times[100];
}

double measure(const bench::Shape& shape, const bnorm_parallel_for* host, bool between) {
    const bench::Floats x = bench::make_floats(shape.elements(), true);
    const bench::Floats y = bench::make_floats(shape.elements(), false);
    bnorm_problem problem = {};
    problem.operation = BNORM_TRAINING_FORWARD;
    problem.batch = shape.batch;
    problem.channels = shape.channels;
    problem.spatial = shape.spatial();
    problem.epsilon = 1e-5;
    problem.parallel_for = host;
    bnorm_plan* plan = nullptr;
    if (bnorm_plan_create(&problem, &plan) != BNORM_OK) {
        std::fprintf(stderr, "%s\n", bnorm_last_error());
        std::exit(1);
    }
    bnorm_training_forward_args args = {};
    args.x = x.get();
    args.y = y.get();
    const double result = median_microseconds(plan, args, between);
    bnorm_plan_destroy(plan);
    return result;
}

} // namespace

int main() {
    const char* policy = std::getenv("OMP_WAIT_POLICY");
    const bnorm_parallel_for host = {run_on_openmp, nullptr, omp_get_max_threads()};
    std::printf("OMP_WAIT_POLICY=%s, %d threads; microseconds of training forward, NCHW\n\n",
                policy ? policy : "(unset)", host.threads);
    std::printf("| tensor | oneTBB alone | oneTBB after OpenMP | OpenMP's threads after OpenMP |\n|---|---|---|---|\n");
    for (const bench::Shape& shape : kShapes) {
        const double alone = measure(shape, nullptr, false);
        const double after = measure(shape, nullptr, true);
        const double lent = measure(shape, &host, true);
        std::printf("| %s | %.0f | %.0f | %.0f |\n", shape.sizes().c_str(), alone, after, lent);
    }
}
