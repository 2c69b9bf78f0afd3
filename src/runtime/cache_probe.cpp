#include "runtime/cache_probe.hpp"

#include <cstdint>
#include <x86intrin.h>

#include "runtime/cpu.hpp"

namespace bnorm::runtime {
namespace {

// Ticks of the time stamp counter, of which CPUs do 2 to 4.5 a nanosecond. Measured at 2.6 on AMD: eight lines in L2 or
// the last-level cache 80 to 130, of which the clock takes 50; a single one from memory 410 and more. At 2.1 on one of
// Intel's servers, whose last level is farther away: four lines in it 120 to 270, from memory 330 and more. (Eight
// there: 200 to 390, 340 and more if half are from memory.)
constexpr std::uint64_t kMostTicksOfCaches = 250;
constexpr std::uint64_t kMostTicksOfFarCaches = 280;

void read_byte(const char* address) { static_cast<void>(*static_cast<const volatile char*>(address)); }

} // namespace

bool reads_from_cache(std::span<const CacheProbe, kCacheProbes> probes) {
    for (const CacheProbe& probe : probes) {
        read_byte(probe.neighbour);
    }
    _mm_lfence();
    const std::uint64_t start = __rdtsc();
    for (const CacheProbe& probe : probes) {
        read_byte(probe.line);
    }
    _mm_lfence(); // until all have come; RDTSCP would do the same, but not on every CPU that has SSE2
    return __rdtsc() - start <= (cache_sizes().past_l2 ? kMostTicksOfFarCaches : kMostTicksOfCaches);
}

} // namespace bnorm::runtime
