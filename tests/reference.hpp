// The oracle: batch norm in long double, two passes, plain loops; nothing of the library.
#ifndef BNORM_TESTS_REFERENCE_HPP
#define BNORM_TESTS_REFERENCE_HPP

#include <algorithm>
#include <cmath>
#include <limits>

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

    Real operator()(Real v) const {
        switch (kind) {
        case BNORM_RELU: return v <= 0 ? 0 : v;
        case BNORM_LEAKY_RELU: return v > 0 ? v : static_cast<Real>(parameter) * v;
        case BNORM_CLIPPED_RELU:
            return v <= 0 ? 0 : v >= static_cast<Real>(parameter) ? static_cast<Real>(parameter) : v;
        default: return v;
        }
    }
    // At a kink: that of the constant side.
    Real derivative(Real v) const {
        switch (kind) {
        case BNORM_RELU: return v > 0 ? 1 : 0;
        case BNORM_LEAKY_RELU: return v > 0 ? 1 : static_cast<Real>(parameter);
        case BNORM_CLIPPED_RELU: return v > 0 && v < static_cast<Real>(parameter) ? 1 : 0;
        default: return 1;
        }
    }
    // How far v is from the nearest place where the derivative jumps.
    Real distance_to_kink(Real v) const {
        switch (kind) {
        case BNORM_IDENTITY: return std::numeric_limits<Real>::infinity();
        case BNORM_CLIPPED_RELU: return std::min(std::fabs(v), std::fabs(v - static_cast<Real>(parameter)));
        default: return std::fabs(v);
        }
    }
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

} // namespace tests

#endif
