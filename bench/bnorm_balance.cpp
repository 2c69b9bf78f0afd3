// Prints how evenly the plans of the suite's tensors spread over threads, as Markdown: bnorm_balance [L2 KiB] [LLC MiB]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "balance.hpp"
#include "shapes.hpp"

using namespace bnorm::plan;

namespace {

constexpr int kThreads[] = {4, 8, 16, 32, 64, 128, 256};

struct Row {
    const char* name;
    bnorm_operation operation;
    Workload workload; // as the library describes it to its planner
};
// Backward with saved statistics: one reduction.
constexpr Row kRows[] = {{"training forward", BNORM_TRAINING_FORWARD, {1, true, 3, 1, 2}},
                         {"inference", BNORM_INFERENCE, {0, true, 3, 1, 2, true}},
                         {"backward", BNORM_BACKWARD, {1, true, 5, 2, 3}}};

Geometry geometry_of(bnorm_operation operation, bnorm_layout layout, const bench::Shape& shape) {
    bnorm_problem problem = {};
    problem.operation = operation;
    problem.layout = layout;
    problem.batch = shape.batch;
    problem.channels = shape.channels;
    problem.spatial = shape.spatial();
    return make_geometry(problem);
}

void print_header() {
    std::printf("| tensor | operation | layout |");
    for (const int threads : kThreads) {
        std::printf(" %d |", threads);
    }
    std::printf("\n|---|---|---|");
    for (std::size_t i = 0; i < std::size(kThreads); ++i) {
        std::printf("---|");
    }
    std::printf("\n");
}

void print_row(const bench::Shape& shape, const Row& row, bnorm_layout layout, Machine machine) {
    const Geometry geometry = geometry_of(row.operation, layout, shape);
    std::printf("| %s %s | %s | %s |", shape.layer.c_str(), shape.sizes().c_str(), row.name,
                layout == BNORM_NCHW ? "NCHW" : "NHWC");
    for (const int threads : kThreads) {
        machine.threads = threads;
        const Schedule schedule = make_schedule(geometry, row.workload, machine);
        const bench::Balance balance = bench::balance(geometry, row.workload, schedule);
        std::printf(" %.2f (%d: %.2f MiB) |", balance.slowest, schedule.threads, balance.bytes / (1 << 20));
    }
    std::printf("\n");
}

std::int64_t argument(int argc, char** argv, int index, std::int64_t otherwise) {
    return argc > index ? std::max(1L, std::strtol(argv[index], nullptr, 10)) : otherwise;
}

} // namespace

int main(int argc, char** argv) {
    const std::int64_t last_level = argument(argc, argv, 2, 32) << 20;
    const Machine machine = {0, argument(argc, argv, 1, 1024) << 10, last_level, last_level};
    std::printf(
        "Busiest thread against an even share (threads that the plan uses: what the busiest moves); L2 %lld KiB, "
        "last-level cache %lld MiB.\n\n",
        static_cast<long long>(machine.l2_bytes >> 10), static_cast<long long>(machine.last_level_bytes >> 20));
    print_header();
    for (const bench::Shape& shape : bench::suite()) {
        for (const Row& row : kRows) {
            for (const bnorm_layout layout : {BNORM_NCHW, BNORM_NHWC}) {
                print_row(shape, row, layout, machine);
            }
        }
    }
}
