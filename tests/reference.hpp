// The oracle: batch norm in long double, two passes, plain loops; nothing of the library.
#ifndef BNORM_TESTS_REFERENCE_HPP
#define BNORM_TESTS_REFERENCE_HPP

#include <optional>
#include <vector>

#include "buffers.hpp"

namespace tests {

using Real = long double;

struct Moments {
    Real mean;
    Real m2;
};

Moments reference_moments(const Tensor& x, std::int64_t channel);

struct Activation {
    bnorm_activation kind = BNORM_IDENTITY;
    float parameter = 0.0F;

    Real operator()(Real v) const;
    Real derivative(Real v) const; // at a kink: that of the constant side
    // How far v is from the nearest place where the derivative jumps.
    Real distance_to_kink(Real v) const;
};

// The normalized value before the activation.
struct Affine {
    Real mean;
    Real inv_std;
    Real gamma;
    Real beta;

    Real operator()(Real x, Real residual) const { return gamma * (x - mean) * inv_std + beta + residual; }
};

Affine reference_affine(Real mean, Real variance, double epsilon, const float* gamma, const float* beta,
                        std::int64_t channel);

struct ChannelGradients {
    Real sum_dy = 0;            // sum(dy')
    Real sum_dy_centered_x = 0; // sum(dy' * (x - mean))
    Real absolute = 0;          // sum(|dy'|): the scale of rounding errors of the first
    Real absolute_centered = 0; // sum(|dy' * (x - mean)|): and of the second
};

// dy' of one element; `passed`, where given, decides instead of the sign (an element so near a kink that f32 may tell
// either way).
Real gated(const Activation& activation, Real v, Real dy, std::optional<bool> passed);

} // namespace tests

#endif
