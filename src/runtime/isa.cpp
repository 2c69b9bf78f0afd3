#include "runtime/isa.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "runtime/cpu.hpp"

namespace bnorm::runtime {
namespace {

std::atomic<bnorm_isa> requested_isa{BNORM_ISA_AUTO};

// The policy, apart from what the CPU is able to do: 512 bits wherever there are any, since they were the faster ones
// where both were compared (bench/README.md).
bnorm_isa best_isa() {
    const CpuFeatures& features = cpu_features();
    return features.avx512 ? BNORM_ISA_AVX512 : features.avx2 ? BNORM_ISA_AVX2 : BNORM_ISA_SSE2;
}

struct EnvironmentChoice {
    char text[32] = {};             // a copy: getenv's string may be changed by a later setenv
    bnorm_isa isa = BNORM_ISA_AUTO; // AUTO: refused
};

EnvironmentChoice read_environment() {
    EnvironmentChoice choice;
    const char* text = std::getenv("BNORM_ISA");
    if (text == nullptr || *text == '\0' || std::strcmp(text, isa_name(BNORM_ISA_AUTO)) == 0) {
        choice.isa = best_isa();
        return choice;
    }
    std::strncpy(choice.text, text, sizeof choice.text - 1);
    for (bnorm_isa isa : {BNORM_ISA_SSE2, BNORM_ISA_AVX2, BNORM_ISA_AVX512}) {
        if (std::strcmp(text, isa_name(isa)) == 0 && isa_is_available(isa)) {
            choice.isa = isa;
        }
    }
    return choice;
}

const EnvironmentChoice& environment_choice() {
    static const EnvironmentChoice choice = read_environment();
    return choice;
}

} // namespace

const char* isa_name(bnorm_isa isa) {
    switch (isa) {
    case BNORM_ISA_AUTO: return "auto";
    case BNORM_ISA_SSE2: return "sse2";
    case BNORM_ISA_AVX2: return "avx2";
    case BNORM_ISA_AVX512: return "avx512";
    default: return nullptr;
    }
}

bool isa_is_available(bnorm_isa isa) {
    switch (isa) {
    case BNORM_ISA_AUTO:
    case BNORM_ISA_SSE2: return true;
    case BNORM_ISA_AVX2: return cpu_features().avx2;
    case BNORM_ISA_AVX512: return cpu_features().avx512;
    default: return false;
    }
}

const kernels::KernelTable& kernel_table(bnorm_isa isa) {
    switch (isa) {
    case BNORM_ISA_AVX512: return kernels::kAvx512Kernels;
    case BNORM_ISA_AVX2: return kernels::kAvx2Kernels;
    default: return kernels::kSse2Kernels;
    }
}

bnorm_isa current_isa() {
    const bnorm_isa requested = requested_isa.load(std::memory_order_relaxed);
    return requested != BNORM_ISA_AUTO ? requested : environment_choice().isa;
}

const char* isa_from_environment() { return environment_choice().text; }

void set_isa(bnorm_isa isa) { requested_isa.store(isa, std::memory_order_relaxed); }

} // namespace bnorm::runtime
