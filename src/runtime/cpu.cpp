#include "runtime/cpu.hpp"

#include <cpuid.h>
#include <unistd.h>

namespace bnorm::runtime {
namespace {

// Bits of XCR0: the register state that the operating system saves.
constexpr std::uint32_t kSseAndAvxState = 0x6;
constexpr std::uint32_t kAvx512State = 0xe0;

constexpr bool has_all(std::uint32_t value, std::uint32_t bits) { return (value & bits) == bits; }

std::uint32_t saved_register_state() {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    // The instruction itself: the compiler's intrinsic would need -mxsave for this whole file.
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

CpuFeatures detect_features() {
    std::uint32_t eax = 0;
    std::uint32_t ebx = 0;
    std::uint32_t ecx = 0;
    std::uint32_t edx = 0;
    CpuFeatures features;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || !has_all(ecx, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C)) {
        return features;
    }
    const std::uint32_t state = saved_register_state();
    if (!has_all(state, kSseAndAvxState) || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) {
        return features;
    }
    features.avx2 = has_all(ebx, bit_AVX2);
    features.avx512 = features.avx2 && has_all(state, kAvx512State) &&
                      has_all(ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL);
    return features;
}

std::int64_t positive_or(std::int64_t value, std::int64_t otherwise) { return value > 0 ? value : otherwise; }

CacheSizes detect_cache_sizes() {
    CacheSizes sizes = {std::int64_t{1} << 20, std::int64_t{32} << 20};
#if defined(_SC_LEVEL2_CACHE_SIZE) && defined(_SC_LEVEL3_CACHE_SIZE)
    sizes.l2 = positive_or(sysconf(_SC_LEVEL2_CACHE_SIZE), sizes.l2);
    sizes.last_level = positive_or(sysconf(_SC_LEVEL3_CACHE_SIZE), sizes.last_level);
#endif
    return sizes;
}

} // namespace

const CpuFeatures& cpu_features() {
    static const CpuFeatures features = detect_features();
    return features;
}

const CacheSizes& cache_sizes() {
    static const CacheSizes sizes = detect_cache_sizes();
    return sizes;
}

} // namespace bnorm::runtime
