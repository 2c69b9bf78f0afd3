// Where tensors are when an execution begins: in a cache, or in memory. Speed depends on it, results do not.
#ifndef BNORM_OPS_RESIDENCE_HPP
#define BNORM_OPS_RESIDENCE_HPP

#include <cstdint>

#include "ops/operation.hpp"
#include "plan/geometry.hpp"

namespace bnorm::ops {

// A few lines of each tensor are read: whether any came from memory, which takes more than `most_ticks_of_caches`.
bool found_in_memory(const plan::Geometry& geometry, const Inputs& tensors, std::uint64_t most_ticks_of_caches);

// Whether tensors are nearer at `last`, the last block that the caller's thread has a share of, than at their
// beginning, where its share begins. What a call read or wrote last, L2 still has; it is gone if the next call begins
// at the other end. A few lines are read at both, of the tensor that another layer has just written: dy, if there is
// one, or x. From L2 they took 38 to 76 ticks of the time stamp counter on one of Intel's servers, from its last level
// 68 to 400: the median a third, nine of ten times less than three quarters.
bool nearer_at_end(const plan::Geometry& geometry, const plan::Block& last, const Inputs& tensors);

} // namespace bnorm::ops

#endif
