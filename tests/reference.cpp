#include "reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tests {

double Random::normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
}

Moments reference_moments(const Tensor& x, std::int64_t channel) {
    const Shape& shape = x.shape();
    const Real count = static_cast<Real>(shape.per_channel());
    Real sum = 0;
    for (std::int64_t n = 0; n < shape.batch; ++n) {
        for (std::int64_t s = 0; s < shape.spatial; ++s) {
            sum += static_cast<Real>(x(n, channel, s));
        }
    }
    const Real mean = sum / count;
    Real m2 = 0;
    for (std::int64_t n = 0; n < shape.batch; ++n) {
        for (std::int64_t s = 0; s < shape.spatial; ++s) {
            const Real d = static_cast<Real>(x(n, channel, s)) - mean;
            m2 += d * d;
        }
    }
    return {mean, m2};
}

Real Activation::operator()(Real v) const {
    switch (kind) {
    case BNORM_RELU: return v <= 0 ? 0 : v;
    case BNORM_LEAKY_RELU: return v > 0 ? v : static_cast<Real>(parameter) * v;
    case BNORM_CLIPPED_RELU: return v <= 0 ? 0 : v >= static_cast<Real>(parameter) ? static_cast<Real>(parameter) : v;
    default: return v;
    }
}

Real Activation::derivative(Real v) const {
    switch (kind) {
    case BNORM_RELU: return v > 0 ? 1 : 0;
    case BNORM_LEAKY_RELU: return v > 0 ? 1 : static_cast<Real>(parameter);
    case BNORM_CLIPPED_RELU: return v > 0 && v < static_cast<Real>(parameter) ? 1 : 0;
    default: return 1;
    }
}

Real Activation::distance_to_kink(Real v) const {
    switch (kind) {
    case BNORM_IDENTITY: return std::numeric_limits<Real>::infinity();
    case BNORM_CLIPPED_RELU: return std::min(std::fabs(v), std::fabs(v - static_cast<Real>(parameter)));
    default: return std::fabs(v);
    }
}

Affine reference_affine(Real mean, Real variance, double epsilon, const float* gamma, const float* beta,
                        std::int64_t channel) {
    return {mean, 1 / std::sqrt(variance + static_cast<Real>(epsilon)),
            gamma == nullptr ? 1 : static_cast<Real>(gamma[channel]),
            beta == nullptr ? 0 : static_cast<Real>(beta[channel])};
}

Real gated(const Activation& activation, Real v, Real dy, std::optional<bool> passed) {
    if (!passed.has_value()) {
        return dy * activation.derivative(v);
    }
    if (*passed) {
        return dy;
    }
    return activation.kind == BNORM_LEAKY_RELU ? dy * static_cast<Real>(activation.parameter) : 0;
}

} // namespace tests
