// Whether what is about to be read is in a cache.
#ifndef BNORM_RUNTIME_CACHE_PROBE_HPP
#define BNORM_RUNTIME_CACHE_PROBE_HPP

#include <cstddef>
#include <span>

namespace bnorm::runtime {

struct CacheProbe {
    const char* line;
    // In the same page; read first, so that what is timed is the cache, not the way to the page. The line itself, if
    // there is nothing else: it is then found in cache.
    const char* neighbour;
};

// So many at a time: the more, the more lines of a cache that is far away take as long as one from memory.
constexpr std::size_t kCacheProbes = 4;

// Reads a byte of each line, all at once, and takes the time: some tens of nanoseconds if caches hold them all. False
// if one came from memory, and, rarely, if the thread was interrupted. The first call of a process finds out how long
// memory takes, which is some 50 us.
bool reads_from_cache(std::span<const CacheProbe, kCacheProbes> probes);

} // namespace bnorm::runtime

#endif
