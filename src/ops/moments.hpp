// Statistics on their own.
#ifndef BNORM_OPS_MOMENTS_HPP
#define BNORM_OPS_MOMENTS_HPP

#include "ops/tensors.hpp"

namespace bnorm::ops {

void moments(const Execution& execution, const bnorm_moments_args& args);
void moments_merge(const bnorm_moments_merge_args& args);
void moments_finish(const bnorm_moments_finish_args& args);

} // namespace bnorm::ops

#endif
