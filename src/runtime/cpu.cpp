#include "runtime/cpu.hpp"

#include <algorithm>
#include <cpuid.h>

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

// Intel describes its caches in one leaf, AMD in another (APM volume 3, E.4.15), in the same form.
constexpr std::uint32_t kLeafOfIntel = 0x4;
constexpr std::uint32_t kLeafOfAmd = 0x8000001d;
constexpr std::uint32_t kMostSubleaves = 8;

// Intel's server CPUs report one last level for all their cores, of hundreds of MiB, which takes what leaves every L2.
// Measured on two cores of such a CPU (300 MiB): tensors of 100 MB come at the speed of memory, of 30 MB at that of the
// cache. Outputs that are written again and again stay there up to 16 to 22 MB each. Others are stored past the cache
// in 0.6 to 0.9 of the time from 1 MB on, what reads them next included: a store that misses L2 waits for the line.
constexpr std::int64_t kMostOfIntel = std::int64_t{128} << 20;
constexpr std::int64_t kMostForStoresOfIntel = std::int64_t{64} << 20;

// Bits `low` to `high` of a register.
constexpr std::int64_t field(std::uint32_t value, int low, int high) {
    return static_cast<std::int64_t>((value >> low) & ((std::uint64_t{1} << (high - low + 1)) - 1));
}

// The first of AMD's that loads two vectors of 64 bytes from L1 and stores one in each cycle (in notebooks some take
// two, and are counted among them).
constexpr std::int64_t kFamilyOfZen5 = 0x1a;

std::int64_t family() {
    std::uint32_t eax = 0;
    std::uint32_t ebx = 0;
    std::uint32_t ecx = 0;
    std::uint32_t edx = 0;
    __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    return field(eax, 8, 11) + (field(eax, 8, 11) == 0xf ? field(eax, 20, 27) : 0);
}

// CPUID rather than sysconf: glibc 2.36 reports the L3 of the whole socket (384 MiB on an EPYC 9005, of which one core
// reaches 32). Zeros where there is no such leaf.
CacheSizes read_cache_sizes(std::uint32_t leaf) {
    CacheSizes sizes = {0, 0, 0, false, false};
    for (std::uint32_t subleaf = 0; subleaf < kMostSubleaves; ++subleaf) {
        std::uint32_t eax = 0;
        std::uint32_t ebx = 0;
        std::uint32_t ecx = 0;
        std::uint32_t edx = 0;
        if (__get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx) == 0 || field(eax, 0, 4) == 0) {
            break;
        }
        const std::int64_t level = field(eax, 5, 7);
        const std::int64_t ways = field(ebx, 22, 31) + 1;
        const std::int64_t partitions = field(ebx, 12, 21) + 1;
        const std::int64_t line = field(ebx, 0, 11) + 1;
        const std::int64_t bytes = ways * partitions * line * (static_cast<std::int64_t>(ecx) + 1);
        if (level == 2) {
            sizes.l2 = sizes.last_level = bytes;
        } else if (level >= 3) {
            sizes.last_level = bytes;
            sizes.past_l2 = field(edx, 1, 1) == 0; // it need not hold what L2 holds
        }
    }
    sizes.for_stores = sizes.last_level;
    return sizes;
}

CacheSizes detect_cache_sizes() {
    CacheSizes sizes = read_cache_sizes(kLeafOfIntel);
    if (sizes.l2 > 0) {
        sizes.for_stores = std::min(sizes.last_level, kMostForStoresOfIntel);
        sizes.last_level = std::min(sizes.last_level, kMostOfIntel);
        sizes.past_l2 = sizes.past_l2 && cpu_features().avx512; // servers: desktops have a ring, and another speed
        return sizes;
    }
    sizes = read_cache_sizes(kLeafOfAmd);
    if (sizes.l2 > 0) {
        sizes.past_l2 = false;
        sizes.fast_caches = family() >= kFamilyOfZen5;
        return sizes;
    }
    return {std::int64_t{1} << 20, std::int64_t{32} << 20, std::int64_t{32} << 20, false, false};
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
