// The table of a minute: each operation and layout on a few shapes of ResNet-50, in GB/s, beside what this machine's
// memory gives to a plain copy of the same tensor in the same run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "case.hpp"
#include "memory.hpp"

namespace {

using namespace bench;
using Clock = std::chrono::steady_clock;

struct Row {
    const char* name;
    double bytes;
    std::function<void()> run;
    std::vector<double> seconds;

    double gigabytes_per_second() {
        const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
        std::nth_element(seconds.begin(), middle, seconds.end());
        return bytes / *middle * 1e-9;
    }
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

template <class Subject, class... Arguments>
Row make_row(const char* name, const Arguments&... arguments) {
    const auto subject = std::make_shared<Subject>(arguments...);
    return {name, subject->bytes(), [subject] { subject->run(); }, {}};
}

// The rows take turns, so that a machine that slows down slows all of them down. Each turn repeats a row for a few
// milliseconds: a neighbour in the cache is not what is to be seen.
void time_rows(std::vector<Row>& rows, double budget) {
    constexpr double kTurn = 0.02;
    const Clock::time_point start = Clock::now();
    do {
        for (Row& row : rows) {
            row.run();
            const Clock::time_point turn = Clock::now();
            do {
                const Clock::time_point before = Clock::now();
                row.run();
                row.seconds.push_back(seconds_since(before));
            } while (seconds_since(turn) < kTurn);
        }
    } while (seconds_since(start) < budget);
}

std::vector<Row> make_rows(const Shape& shape, bnorm_isa isa, int threads) {
    std::vector<Row> rows;
    rows.push_back(make_row<Memory>("copy", Traffic::copy, shape.elements(), threads));
    rows.push_back(make_row<Memory>("copy_nontemporal", Traffic::copy_nontemporal, shape.elements(), threads));
    for (const Operation& operation : kOperations) {
        const bool plain = operation.activation == BNORM_IDENTITY && !operation.residual;
        if (plain && (operation.kind == BNORM_TRAINING_FORWARD || operation.kind == BNORM_INFERENCE ||
                      operation.kind == BNORM_BACKWARD)) {
            for (const bnorm_layout layout : kLayouts) {
                rows.push_back(make_row<Case>(operation.name, Description{operation, layout, shape, isa, threads}));
            }
        }
    }
    return rows;
}

void print_shape(const Shape& shape, std::vector<Row>& rows) {
    const double copy = rows[0].gigabytes_per_second();
    const double nontemporal = rows[1].gigabytes_per_second();
    const double limit = std::max(copy, nontemporal);
    std::printf("%s  %s, %.1f MB a tensor; copy: %.1f GB/s with plain stores, %.1f with non-temporal ones\n",
                shape.layer.c_str(), shape.sizes().c_str(), shape.bytes() * 1e-6, copy, nontemporal);
    for (std::size_t i = 2; i + 1 < rows.size(); i += 2) {
        const double nchw = rows[i].gigabytes_per_second();
        const double nhwc = rows[i + 1].gigabytes_per_second();
        std::printf("    %-18s NCHW %6.1f GB/s, %3.0f %% of the faster copy    NHWC %6.1f GB/s, %3.0f %%\n",
                    rows[i].name, nchw, 100.0 * nchw / limit, nhwc, 100.0 * nhwc / limit);
    }
    std::puts("");
    std::fflush(stdout);
}

void print_table(double budget) {
    const std::array shapes = {resnet50("conv2", 32), resnet50("conv3", 32), resnet50("conv4_out", 32),
                               resnet50("conv5", 32), resnet50("conv3", 1)};
    const int threads = bnorm_thread_count();
    bnorm_isa isa = BNORM_ISA_AUTO;
    if (bnorm_get_isa(&isa) != BNORM_OK) {
        throw std::runtime_error(bnorm_last_error());
    }
    std::printf("%s\n%s kernels, %d thread(s). GB/s count the tensors an operation must read or write once: training\n"
                "forward 2 (x, y), inference 2 (x, y), backward 3 (x, dy, dx). A tensor that fits a cache is faster "
                "than memory.\n\n",
                bnorm_build_info(), bnorm_isa_name(isa), threads);
    for (const Shape& shape : shapes) {
        std::vector<Row> rows = make_rows(shape, isa, threads);
        time_rows(rows, budget / static_cast<double>(shapes.size()));
        print_shape(shape, rows);
    }
}

} // namespace

int main(int argc, char** argv) {
    double seconds = 50.0;
    if (argc == 3 && std::strcmp(argv[1], "--seconds") == 0) {
        seconds = std::atof(argv[2]);
    }
    if ((argc != 1 && argc != 3) || !(seconds > 0.0)) {
        std::fprintf(stderr, "usage: bnorm_summary [--seconds S]   time to spend on measuring, 50 by default\n");
        return 2;
    }
    try {
        print_table(seconds);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bnorm_summary: %s\n", error.what());
        return 1;
    }
    return 0;
}
