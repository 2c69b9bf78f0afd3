// Batch norm as an affine function, on its own or inside the weights of the layer before it.
#ifndef BNORM_OPS_FOLDING_HPP
#define BNORM_OPS_FOLDING_HPP

#include <cstdint>

#include "bnorm/bnorm.h"

namespace bnorm::ops {

void fold(const bnorm_fold_args& args);
void fold_weights(const bnorm_fold_weights_args& args);

// A weight array as [groups][outer][outputs_per_group][inner]; each channel of the batch norm is a (group, output).
struct WeightShape {
    std::int64_t groups;
    std::int64_t outer; // input channels of one group, where they come before the outputs; else 1
    std::int64_t outputs_per_group;
    std::int64_t inner;
};
// The members must be valid, and their products fit int64.
WeightShape weight_shape(const bnorm_fold_weights_args& args);

} // namespace bnorm::ops

#endif
