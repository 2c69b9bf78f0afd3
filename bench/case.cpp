#include "case.hpp"

#include <new>
#include <stdexcept>

namespace bench {

namespace {

constexpr std::size_t kPage = 4096;

void require(bnorm_status status) {
    if (status != BNORM_OK) {
        throw std::runtime_error(bnorm_last_error());
    }
}

} // namespace

Floats make_floats(std::int64_t count, bool random) {
    const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(float) + kPage - 1) / kPage * kPage;
    Floats floats(static_cast<float*>(std::aligned_alloc(kPage, bytes)));
    if (floats == nullptr && bytes > 0) {
        throw std::bad_alloc();
    }
    std::uint32_t state = 1;
    for (std::int64_t i = 0; i < count; ++i) {
        state = state * 1664525U + 1013904223U; // Numerical Recipes, "quick and dirty generators"
        floats[static_cast<std::size_t>(i)] = random ? static_cast<float>(state >> 8) * 0x1p-23F - 1.0F : 0.0F;
    }
    return floats;
}

std::string Description::name() const {
    return std::string(operation.name) + "/" + layout_name(layout) + "/" + shape.layer + ":" + shape.sizes() + "/" +
           bnorm_isa_name(isa) + "/threads:" + std::to_string(threads);
}

Case::Case(const Description& description, float* x) : description_(description), given_x_(x) {
    const Operation& operation = description.operation;
    bnorm_problem problem = {};
    problem.operation = operation.kind;
    problem.layout = description.layout;
    problem.batch = description.shape.batch;
    problem.channels = description.shape.channels;
    problem.spatial = description.shape.spatial();
    problem.epsilon = 1e-5;
    problem.activation = operation.activation;
    problem.residual = operation.residual ? 1 : 0;
    problem.threads = description.threads;

    bnorm_plan* plan = nullptr;
    require(bnorm_set_isa(description.isa));
    require(bnorm_plan_create(&problem, &plan));
    plan_.reset(plan);
    prepare_tensors();
    prepare_arguments();
}

void Case::prepare_tensors() {
    const Operation& operation = description_.operation;
    const std::int64_t elements = description_.shape.elements();
    const auto channels = static_cast<std::size_t>(description_.shape.channels);
    const bool backward = operation.kind == BNORM_BACKWARD || operation.kind == BNORM_BACKWARD_FIXED;
    const auto make_if = [&](bool needed, bool random) { return needed ? make_floats(elements, random) : Floats(); };

    x_ = make_if(given_x_ == nullptr, true);
    y_ = make_if(!backward && operation.kind != BNORM_MOMENTS, false);
    residual_ = make_if(!backward && operation.residual, true);
    dy_ = make_if(backward, true);
    dx_ = make_if(backward, false);
    dresidual_ = make_if(backward && operation.residual, false);

    gamma_.assign(channels, 1.25F);
    beta_.assign(channels, 0.125F);
    running_mean_.assign(channels, 0.0F);
    running_var_.assign(channels, 1.0F);
    dgamma_.resize(channels);
    dbeta_.resize(channels);
    mean_.assign(channels, 0.0);
    inv_std_.assign(channels, 1.75);

    // With a residual, forward writes a mask and backward reads it: half its bits are on.
    bnorm_plan_info info = {};
    require(bnorm_plan_get_info(plan_.get(), &info));
    mask_.assign(operation.residual && operation.kind != BNORM_INFERENCE ? info.mask_bytes : 0, 0x96);
}

void Case::prepare_arguments() {
    unsigned char* mask = mask_.empty() ? nullptr : mask_.data();
    training_ = {.x = x(),
                 .residual = residual_.get(),
                 .gamma = gamma_.data(),
                 .beta = beta_.data(),
                 .y = y_.get(),
                 .mean = mean_.data(),
                 .inv_std = inv_std_.data(),
                 .running_mean = running_mean_.data(),
                 .running_var = running_var_.data(),
                 .running_update = BNORM_RUNNING_EXPONENTIAL,
                 .momentum = 0.1,
                 .batches_seen = 0,
                 .mask = mask,
                 .mask_bytes = mask_.size()};
    inference_ = {.x = x(),
                  .residual = residual_.get(),
                  .gamma = gamma_.data(),
                  .beta = beta_.data(),
                  .running_mean = running_mean_.data(),
                  .running_var = running_var_.data(),
                  .y = y_.get(),
                  .mask = nullptr,
                  .mask_bytes = 0};
    backward_ = {.dy = dy_.get(),
                 .x = x(),
                 .gamma = gamma_.data(),
                 .beta = beta_.data(),
                 .mean = mean_.data(),
                 .inv_std = inv_std_.data(),
                 .mask = mask,
                 .mask_bytes = mask_.size(),
                 .dx = dx_.get(),
                 .dresidual = dresidual_.get(),
                 .dgamma = dgamma_.data(),
                 .dbeta = dbeta_.data()};
    backward_fixed_ = {.dy = dy_.get(),
                       .x = x(),
                       .gamma = gamma_.data(),
                       .beta = beta_.data(),
                       .running_mean = running_mean_.data(),
                       .running_var = running_var_.data(),
                       .mask = mask,
                       .mask_bytes = mask_.size(),
                       .dx = dx_.get(),
                       .dresidual = dresidual_.get(),
                       .dgamma = dgamma_.data(),
                       .dbeta = dbeta_.data()};
    moments_ = {.x = x(), .count = &count_, .mean = mean_.data(), .m2 = inv_std_.data()};
}

void Case::run() {
    switch (description_.operation.kind) {
    case BNORM_TRAINING_FORWARD: require(bnorm_training_forward(plan_.get(), &training_)); break;
    case BNORM_INFERENCE: require(bnorm_inference(plan_.get(), &inference_)); break;
    case BNORM_BACKWARD: require(bnorm_backward(plan_.get(), &backward_)); break;
    case BNORM_BACKWARD_FIXED: require(bnorm_backward_fixed(plan_.get(), &backward_fixed_)); break;
    case BNORM_MOMENTS: require(bnorm_moments(plan_.get(), &moments_)); break;
    default: throw std::logic_error("an operation without a benchmark");
    }
}

} // namespace bench
