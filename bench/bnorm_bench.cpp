// Google Benchmark over operations x layouts x shapes x ISAs x threads, and over what memory gives.
// Names: operation/layout/layer:sizes/isa/threads:n, for --benchmark_filter.
#include <benchmark/benchmark.h>

#include <exception>
#include <vector>

#include "case.hpp"
#include "memory.hpp"

namespace {

using namespace bench;

// Tensors exist only while they are timed: all of them together would not fit any memory.
template <class Subject, class... Arguments>
void time_subject(benchmark::State& state, const Arguments&... arguments) {
    try {
        Subject subject(arguments...);
        subject.run();
        for (auto iteration : state) {
            (void)iteration;
            subject.run();
        }
        state.SetBytesProcessed(static_cast<std::int64_t>(static_cast<double>(state.iterations()) * subject.bytes()));
    } catch (const std::exception& error) {
        state.SkipWithError(error.what());
    }
}

std::vector<bnorm_isa> isas() {
    std::vector<bnorm_isa> available;
    for (const bnorm_isa isa : {BNORM_ISA_AVX512, BNORM_ISA_AVX2, BNORM_ISA_SSE2}) {
        if (bnorm_isa_is_available(isa) != 0) {
            available.push_back(isa);
        }
    }
    return available;
}

std::vector<int> thread_counts() {
    const int all = bnorm_thread_count();
    return all > 1 ? std::vector<int>{all, 1} : std::vector<int>{1};
}

void register_case(const Description& description) {
    benchmark::RegisterBenchmark(description.name().c_str(), [description](benchmark::State& state) {
        time_subject<Case>(state, description);
    })->UseRealTime();
}

void register_memory(Traffic traffic, std::int64_t kibibytes, int threads) {
    const std::string name = std::string("memory/") + traffic_name(traffic) + "/" + std::to_string(kibibytes) +
                             "KiB/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
        time_subject<Memory>(state, traffic, kibibytes * 256, threads);
    })->UseRealTime();
}

void register_all() {
    for (const int threads : thread_counts()) {
        for (const Traffic traffic : kTraffic) {
            for (const std::int64_t kibibytes : {128, 2048, 32768, 262144}) {
                register_memory(traffic, kibibytes, threads);
            }
        }
        for (const Operation& operation : kOperations) {
            for (const bnorm_layout layout : kLayouts) {
                for (const Shape& shape : suite()) {
                    for (const bnorm_isa isa : isas()) {
                        register_case({operation, layout, shape, isa, threads});
                    }
                }
            }
        }
    }
}

} // namespace

int main(int argc, char** argv) {
    benchmark::AddCustomContext("bnorm", bnorm_build_info());
    register_all();
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 1;
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
