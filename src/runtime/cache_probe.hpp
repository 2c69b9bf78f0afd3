// Whether what is about to be read is in a cache.
#ifndef BNORM_RUNTIME_CACHE_PROBE_HPP
#define BNORM_RUNTIME_CACHE_PROBE_HPP

#include <span>

namespace bnorm::runtime {

struct CacheProbe {
    const char* line;
    // In the same page; read first, so that what is timed is the cache, not the way to the page. The line itself, if
    // there is nothing else: it is then found in cache.
    const char* neighbour;
};

// Reads a byte of each line, all at once, and takes the time: some tens of nanoseconds if caches hold them all. False
// if one came from memory, and, rarely, if the thread was interrupted.
bool reads_from_cache(std::span<const CacheProbe> probes);

} // namespace bnorm::runtime

#endif
