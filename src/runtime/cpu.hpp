// What this CPU and this operating system can do.
#ifndef BNORM_RUNTIME_CPU_HPP
#define BNORM_RUNTIME_CPU_HPP

#include <cstdint>

namespace bnorm::runtime {

struct CpuFeatures {
    bool avx2 = false;   // with FMA and F16C, and the system saves the upper halves of the vector registers
    bool avx512 = false; // F, BW, DQ and VL, and the system saves mask and 512-bit registers
};

// Asks CPUID and XGETBV once.
const CpuFeatures& cpu_features();

struct CacheSizes {
    std::int64_t l2;         // bytes, of one core
    std::int64_t last_level; // bytes, shared: what a few cores can expect to find in it
    std::int64_t for_stores; // bytes, shared: up to which what they write again and again stays in it
    bool past_l2;            // whether what is not written again soon is best stored past all caches, if not in L2
    bool fast_caches;        // whether L1 and L2 deliver twice what they did before, as AMD's do from Zen 5 on
};

// From what the CPU tells; where it does not, sizes that are common.
const CacheSizes& cache_sizes();

} // namespace bnorm::runtime

#endif
