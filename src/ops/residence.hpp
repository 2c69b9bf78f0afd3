// Where tensors are when an execution begins: in a cache, or in memory. Speed depends on it, results do not.
#ifndef BNORM_OPS_RESIDENCE_HPP
#define BNORM_OPS_RESIDENCE_HPP

#include <cstdint>

#include "ops/operation.hpp"
#include "plan/geometry.hpp"

namespace bnorm::ops {

// A few lines of each tensor are read: whether any came from memory, which takes more than `most_ticks_of_caches`.
bool found_in_memory(const plan::Geometry& geometry, const ReducedTensors& tensors, std::uint64_t most_ticks_of_caches);

} // namespace bnorm::ops

#endif
