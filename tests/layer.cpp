#include "layer.hpp"

#include <algorithm>
#include <cmath>

namespace tests {
namespace {

constexpr double kMomentum = 0.1;

// |y| of a normal distribution hardly exceeds 5, where half a unit in the last place is 2.4e-7; the promise is 1e-6 for
// f32 arithmetic of that size, and grows with it. A residual may cancel the normalized value, whose rounding stays.
Real output_bound(Real y, Real residual) {
    return 1e-6L * std::max<Real>(1, std::max(std::fabs(y), std::fabs(y - residual)) / 4);
}

void check_outputs(const Layer& layer, const Tensor& x, const Tensor& residual, std::int64_t channel,
                   const Affine& affine) {
    const Shape& shape = x.shape();
    Real worst = 0;
    for (std::int64_t n = 0; n < shape.batch; ++n) {
        for (std::int64_t s = 0; s < shape.spatial; ++s) {
            const Real added = layer.setup.residual ? static_cast<Real>(residual(n, channel, s)) : 0;
            const Real v = affine(static_cast<Real>(x(n, channel, s)), added);
            const Tensor& y = layer.setup.in_place ? layer.x : layer.y;
            const Real error = std::fabs(layer.setup.activation(v) - static_cast<Real>(y(n, channel, s)));
            worst = std::max(worst, std::isnan(error) ? 1e30L : error / output_bound(v, added));
        }
    }
    INFO("channel ", channel);
    CHECK(static_cast<double>(worst) <= 1.0);
}

bool near(Real got, Real expected, Real bound) { return std::fabs(got - expected) <= bound; }

template <class Check>
void for_checked_channels(const Setup& setup, const Check& check) {
    for (std::int64_t c = setup.check_first; c < setup.shape.channels; c += setup.check_every) {
        check(c);
    }
}

} // namespace

std::ostream& operator<<(std::ostream& stream, const Setup& setup) {
    return stream << setup.shape << " activation " << setup.activation.kind << " residual " << setup.residual
                  << " mask " << setup.mask << " threads " << setup.threads << " placement "
                  << static_cast<int>(setup.placement) << " gap " << setup.gap << " in place " << setup.in_place
                  << " gamma " << setup.gamma << " beta " << setup.beta << " mean " << setup.mean;
}

Layer::Layer(const Setup& s)
    : setup(s), x(s.shape, s.placement, s.gap), residual(s.shape, s.placement, s.gap * 2),
      y(s.shape, s.placement, s.in_place ? s.gap : s.gap * 3), dy(s.shape, s.placement, s.in_place ? s.gap : s.gap * 3),
      dx(s.shape, s.placement, s.gap), dresidual(s.shape, s.placement, s.gap * 2), gamma(s.shape.channels, s.placement),
      beta(s.shape.channels, s.placement), running_mean(s.shape.channels, s.placement),
      running_var(s.shape.channels, s.placement), dgamma(s.shape.channels, s.placement),
      dbeta(s.shape.channels, s.placement), mean(s.shape.channels, s.placement), inv_std(s.shape.channels, s.placement),
      mask(static_cast<std::int64_t>(Plan(problem(BNORM_INFERENCE)).info().mask_bytes), s.placement) {
    Random random(42);
    x.fill([&](std::int64_t) { return static_cast<float>(s.mean + random.nearly_normal()); });
    residual.fill([&](std::int64_t) { return static_cast<float>(random.nearly_normal()); });
    dy.fill([&](std::int64_t) { return static_cast<float>(random.nearly_normal()); });
    for (std::int64_t c = 0; c < s.shape.channels; ++c) {
        gamma[c] = static_cast<float>(1.0 + 0.3 * random.normal());
        beta[c] = static_cast<float>(0.5 * random.normal());
        running_mean[c] = static_cast<float>(s.mean + 0.1 * random.normal());
        running_var[c] = static_cast<float>(0.5 + random.uniform());
    }
    running_mean_before.assign(running_mean.data(), running_mean.data() + s.shape.channels);
    running_var_before.assign(running_var.data(), running_var.data() + s.shape.channels);
}

bnorm_problem Layer::problem(bnorm_operation operation) const {
    bnorm_problem result = problem_of(operation, setup.shape, setup.activation, setup.residual, setup.threads);
    result.x_stride = x.stride();
    result.y_stride = y.stride();
    result.residual_stride = residual.stride();
    return result;
}

bnorm_training_forward_args Layer::forward_args() {
    bnorm_training_forward_args args = {};
    args.x = x.data();
    args.residual = setup.residual ? residual.data() : nullptr;
    args.gamma = gamma_or_null();
    args.beta = beta_or_null();
    args.y = setup.in_place ? x.data() : y.data();
    args.mean = mean.data();
    args.inv_std = inv_std.data();
    args.running_mean = running_mean.data();
    args.running_var = running_var.data();
    args.momentum = kMomentum;
    args.mask = setup.mask ? mask.data() : nullptr;
    args.mask_bytes = mask.bytes();
    return args;
}

bnorm_inference_args Layer::inference_args() {
    bnorm_inference_args args = {};
    args.x = x.data();
    args.residual = setup.residual ? residual.data() : nullptr;
    args.gamma = gamma_or_null();
    args.beta = beta_or_null();
    args.running_mean = running_mean.data();
    args.running_var = running_var.data();
    args.y = setup.in_place ? x.data() : y.data();
    args.mask = setup.mask ? mask.data() : nullptr;
    args.mask_bytes = mask.bytes();
    return args;
}

bnorm_backward_args Layer::backward_args() {
    bnorm_backward_args args = {};
    args.dy = dy.data();
    args.x = x.data();
    args.gamma = gamma_or_null();
    args.beta = beta_or_null();
    args.mean = mean.data();
    args.inv_std = inv_std.data();
    args.mask = setup.mask ? mask.data() : nullptr;
    args.mask_bytes = mask.bytes();
    args.dx = setup.in_place ? dy.data() : dx.data();
    args.dresidual = setup.residual ? dresidual.data() : nullptr;
    args.dgamma = dgamma.data();
    args.dbeta = dbeta.data();
    return args;
}

bnorm_backward_fixed_args Layer::backward_fixed_args() {
    bnorm_backward_fixed_args args = {};
    args.dy = dy.data();
    args.x = x.data();
    args.gamma = gamma_or_null();
    args.beta = beta_or_null();
    args.running_mean = running_mean.data();
    args.running_var = running_var.data();
    args.mask = setup.mask ? mask.data() : nullptr;
    args.mask_bytes = mask.bytes();
    args.dx = setup.in_place ? dy.data() : dx.data();
    args.dresidual = setup.residual ? dresidual.data() : nullptr;
    args.dgamma = dgamma.data();
    args.dbeta = dbeta.data();
    return args;
}

void Layer::run_forward() {
    const bnorm_training_forward_args args = forward_args();
    REQUIRE_OK(bnorm_training_forward(Plan(problem(BNORM_TRAINING_FORWARD)), &args));
}

void Layer::run_inference() {
    const bnorm_inference_args args = inference_args();
    REQUIRE_OK(bnorm_inference(Plan(problem(BNORM_INFERENCE)), &args));
}

void Layer::run_backward() {
    const bnorm_backward_args args = backward_args();
    REQUIRE_OK(bnorm_backward(Plan(problem(BNORM_BACKWARD)), &args));
}

void Layer::run_backward_fixed() {
    const bnorm_backward_fixed_args args = backward_fixed_args();
    REQUIRE_OK(bnorm_backward_fixed(Plan(problem(BNORM_BACKWARD_FIXED)), &args));
}

void check_forward(const Layer& layer, const Tensor& x, const Tensor& residual) {
    const Shape& shape = x.shape();
    const Real count = static_cast<Real>(shape.per_channel());
    for_checked_channels(layer.setup, [&](std::int64_t c) {
        const Moments moments = reference_moments(x, c);
        const Real variance = moments.m2 / count;
        const Affine affine =
            reference_affine(moments.mean, variance, kEpsilon, layer.gamma_or_null(), layer.beta_or_null(), c);
        INFO("channel ", c);
        // The mean of f32 data is right to a fraction of its standard deviation; f64 holds it however large it is.
        CHECK(
            near(layer.mean[c], moments.mean, 1e-7L * (std::sqrt(variance) + 1e-9L * std::fabs(moments.mean) + 1e-6L)));
        // A variance right to 2e-7 makes inv_std right to 1e-7.
        CHECK(near(layer.inv_std[c], affine.inv_std, 1.01e-7L * affine.inv_std));
        const Real unbiased = count > 1 ? moments.m2 / (count - 1) : variance;
        const auto at = static_cast<std::size_t>(c);
        const Real mean_update = (1 - kMomentum) * layer.running_mean_before[at] + kMomentum * moments.mean;
        const Real var_update = (1 - kMomentum) * layer.running_var_before[at] + kMomentum * unbiased;
        CHECK(near(layer.running_mean[c], mean_update, 2e-7L * (std::fabs(mean_update) + 1)));
        CHECK(near(layer.running_var[c], var_update, 2e-7L * (std::fabs(var_update) + 1)));
        check_outputs(layer, x, residual, c, affine);
    });
    CHECK((layer.setup.in_place ? layer.x : layer.y).gaps_untouched());
}

void check_inference(const Layer& layer, const Tensor& x, const Tensor& residual) {
    for_checked_channels(layer.setup, [&](std::int64_t c) {
        check_outputs(layer, x, residual, c,
                      reference_affine(layer.running_mean[c], layer.running_var[c], kEpsilon, layer.gamma_or_null(),
                                       layer.beta_or_null(), c));
    });
    CHECK((layer.setup.in_place ? layer.x : layer.y).gaps_untouched());
}

namespace {

// An element nearer to a kink than rounding errors reach may fall on either side: both gradients are right there.
constexpr Real kKinkZone = 4e-6L;

struct Gradients {
    const Layer& layer;
    const Tensor& dy;
    bool fixed;

    Affine affine_of(std::int64_t c) const {
        const Real count = static_cast<Real>(layer.x.shape().per_channel());
        if (fixed) {
            return reference_affine(layer.running_mean[c], layer.running_var[c], kEpsilon, layer.gamma_or_null(),
                                    layer.beta_or_null(), c);
        }
        const Moments moments = reference_moments(layer.x, c);
        return reference_affine(moments.mean, moments.m2 / count, kEpsilon, layer.gamma_or_null(), layer.beta_or_null(),
                                c);
    }

    // Sums over the elements that lie clear of the kinks, and how much the others could change them.
    ChannelGradients sums(const Affine& affine, std::int64_t c, Real& doubt) const;
    bool in_doubt(Real value) const { return layer.setup.activation.distance_to_kink(value) < kKinkZone; }
    Real value(const Affine& affine, std::int64_t n, std::int64_t c, std::int64_t s) const {
        const Real added = layer.setup.residual ? static_cast<Real>(layer.residual(n, c, s)) : 0;
        return affine(static_cast<Real>(layer.x(n, c, s)), added);
    }
};

ChannelGradients Gradients::sums(const Affine& affine, std::int64_t c, Real& doubt) const {
    ChannelGradients result;
    const Shape& shape = layer.x.shape();
    for (std::int64_t n = 0; n < shape.batch; ++n) {
        for (std::int64_t s = 0; s < shape.spatial; ++s) {
            const Real v = value(affine, n, c, s);
            const Real g = static_cast<Real>(dy(n, c, s)) * layer.setup.activation.derivative(v);
            const Real e = static_cast<Real>(layer.x(n, c, s)) - affine.mean;
            result.sum_dy += g;
            result.sum_dy_centered_x += g * e;
            result.absolute += std::fabs(g);
            result.absolute_centered += std::fabs(g * e);
            doubt += in_doubt(v) ? std::fabs(static_cast<Real>(dy(n, c, s))) * (1 + std::fabs(e)) : 0;
        }
    }
    return result;
}

void check_gradient_channel(const Gradients& gradients, std::int64_t c) {
    const Layer& layer = gradients.layer;
    const Shape& shape = layer.x.shape();
    const Real count = static_cast<Real>(shape.per_channel());
    const Affine affine = gradients.affine_of(c);
    Real doubt = 0;
    const ChannelGradients sums = gradients.sums(affine, c, doubt);
    // Trees of eight f32 terms round four times, the rest is f64; inv_std is right to 1e-7.
    const Real sum_bound = 5e-7L;
    INFO("channel ", c);
    CHECK(near(layer.dbeta[c], sums.sum_dy, sum_bound * (sums.absolute + 1e-6L) + doubt));
    CHECK(near(layer.dgamma[c], affine.inv_std * sums.sum_dy_centered_x,
               affine.inv_std * (sum_bound * (sums.absolute_centered + 1e-6L) + doubt)));
    const Real a = affine.gamma * affine.inv_std;
    const Real inv_var = affine.inv_std * affine.inv_std;
    const Real through_mean = gradients.fixed ? 0 : sums.sum_dy / count;
    const Real through_var = gradients.fixed ? 0 : inv_var * sums.sum_dy_centered_x / count; // times x - mean
    const Tensor& dx = layer.setup.in_place ? layer.dy : layer.dx;
    Real worst = 0;
    for (std::int64_t n = 0; n < shape.batch; ++n) {
        for (std::int64_t s = 0; s < shape.spatial; ++s) {
            const Real v = gradients.value(affine, n, c, s);
            if (gradients.in_doubt(v)) {
                continue;
            }
            const Real g = static_cast<Real>(gradients.dy(n, c, s)) * layer.setup.activation.derivative(v);
            const Real e = static_cast<Real>(layer.x(n, c, s)) - affine.mean;
            const Real expected = a * (g - through_mean - e * through_var);
            // Roundings of the three terms themselves, and what the sums' own errors do to two of them.
            const Real scale =
                std::fabs(a) * (std::fabs(g) + std::fabs(through_mean) + std::fabs(e * through_var) + 1e-6L);
            const Real weight = std::fabs(e) * inv_var;
            const Real of_sums = sum_bound * (sums.absolute + weight * sums.absolute_centered) + doubt * (1 + weight);
            const Real slack = gradients.fixed ? 0 : std::fabs(a) * of_sums / count;
            const Real error = std::fabs(static_cast<Real>(dx(n, c, s)) - expected) / (1e-6L * scale + slack);
            worst = std::max(worst, std::isnan(error) ? 1e30L : error);
            if (layer.setup.residual) {
                const Real missed = std::fabs(static_cast<Real>(layer.dresidual(n, c, s)) - g);
                worst = std::max(worst, std::isnan(missed) ? 1e30L : missed / (1e-7L * std::fabs(g) + 1e-12L));
            }
        }
    }
    CHECK(static_cast<double>(worst) <= 1.0);
}

} // namespace

void check_backward(const Layer& layer, const Tensor& dy, bool fixed) {
    const Gradients gradients = {layer, dy, fixed};
    for_checked_channels(layer.setup, [&](std::int64_t c) { check_gradient_channel(gradients, c); });
    CHECK((layer.setup.in_place ? layer.dy : layer.dx).gaps_untouched());
    CHECK(layer.dresidual.gaps_untouched());
}

} // namespace tests
