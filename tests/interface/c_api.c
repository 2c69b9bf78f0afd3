/*
 * Every function of the header, called from C: on four values a channel whose results are known by hand. A test
 * compares the names in this file with those that the library exports.
 */
#include <bnorm/bnorm.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CHANNELS = 2, SPATIAL = 4, ELEMENTS = CHANNELS * SPATIAL };

static int failures = 0;

static void check(int condition, const char* what, int line) {
    if (!condition) {
        fprintf(stderr, "line %d: failed: %s; last error: %s\n", line, what, bnorm_last_error());
        ++failures;
    }
}

#define CHECK(condition) check((condition), #condition, __LINE__)
#define CHECK_OK(call) CHECK((call) == BNORM_OK)
#define CHECK_CLOSE(a, b) CHECK(fabs((double)(a) - (double)(b)) < 1e-6)

/* Channel 0 has mean 3 and variance 5, channel 1 mean -30 and variance 500. With epsilon 0 both normalize alike. */
static const float x[ELEMENTS] = {0, 2, 4, 6, -60, -40, -20, 0};
static const float gamma_[CHANNELS] = {2, 1}, beta[CHANNELS] = {1, -1};
static const double normalized[SPATIAL] = {-1.3416407864998738, -0.4472135954999579, 0.4472135954999579,
                                           1.3416407864998738};
static double mean[CHANNELS], inv_std[CHANNELS];

static bnorm_plan* new_plan(bnorm_operation operation) {
    const bnorm_problem problem = {.operation = operation,
                                   .data_type = BNORM_F32,
                                   .layout = BNORM_NCHW,
                                   .batch = 1,
                                   .channels = CHANNELS,
                                   .spatial = SPATIAL,
                                   .threads = 1};
    bnorm_plan* plan = NULL;
    CHECK_OK(bnorm_plan_create(&problem, &plan));
    return plan;
}

static void check_outputs(const float* y) {
    for (int i = 0; i < ELEMENTS; ++i) {
        CHECK_CLOSE(y[i], gamma_[i / SPATIAL] * normalized[i % SPATIAL] + beta[i / SPATIAL]);
    }
}

static void test_library(void) {
    bnorm_isa isa = BNORM_ISA_AUTO;
    CHECK(strlen(bnorm_version()) >= 5);
    CHECK(strstr(bnorm_build_info(), bnorm_version()) != NULL);
    CHECK(strcmp(bnorm_last_error(), "") == 0);
    CHECK_OK(bnorm_get_isa(&isa));
    CHECK_OK(bnorm_set_isa(isa));
    CHECK(bnorm_isa_is_available(isa) == 1);
    CHECK(strlen(bnorm_isa_name(isa)) >= 4);
    CHECK(bnorm_thread_count() >= 1);
    CHECK(strcmp(bnorm_status_text(BNORM_OK), "ok") == 0);
    CHECK(bnorm_set_isa(-1) == BNORM_INVALID_ARGUMENT);
    CHECK(strlen(bnorm_last_error()) > 0);
}

static void test_training(void) {
    bnorm_plan* plan = new_plan(BNORM_TRAINING_FORWARD);
    bnorm_plan_info info = {0};
    float y[ELEMENTS], running_mean[CHANNELS] = {0, 0}, running_var[CHANNELS] = {1, 1};
    CHECK_OK(bnorm_plan_get_info(plan, &info));
    CHECK(info.threads == 1 && info.mask_bytes == 0);
    CHECK_OK(bnorm_training_forward(plan, &(bnorm_training_forward_args){.x = x,
                                                                         .gamma = gamma_,
                                                                         .beta = beta,
                                                                         .y = y,
                                                                         .mean = mean,
                                                                         .inv_std = inv_std,
                                                                         .running_mean = running_mean,
                                                                         .running_var = running_var,
                                                                         .momentum = 0.5}));
    check_outputs(y);
    CHECK_CLOSE(mean[0], 3);
    CHECK_CLOSE(mean[1], -30);
    CHECK_CLOSE(inv_std[0], 1 / sqrt(5));
    CHECK_CLOSE(running_mean[1], -15);
    CHECK_CLOSE(running_var[0], 0.5 + 0.5 * 20.0 / 3.0);
    bnorm_plan_destroy(plan);
}

static void test_inference(void) {
    bnorm_plan* plan = new_plan(BNORM_INFERENCE);
    const float running_mean[CHANNELS] = {3, -30}, running_var[CHANNELS] = {5, 500};
    float y[ELEMENTS];
    CHECK_OK(bnorm_inference(
        plan,
        &(bnorm_inference_args){
            .x = x, .gamma = gamma_, .beta = beta, .running_mean = running_mean, .running_var = running_var, .y = y}));
    check_outputs(y);
    bnorm_plan_destroy(plan);
}

/* dy = 1 for the first element of a channel: dbeta = 1, dgamma its normalized value, and dx as the formula says. */
static void check_gradients(const float* dx, const float* dgamma, const float* dbeta, int fixed) {
    for (int i = 0; i < ELEMENTS; ++i) {
        const double dy = i % SPATIAL == 0 ? 1 : 0;
        const double through_statistics = fixed ? 0 : 0.25 + normalized[i % SPATIAL] * normalized[0] / 4;
        CHECK_CLOSE(dx[i], gamma_[i / SPATIAL] * inv_std[i / SPATIAL] * (dy - through_statistics));
    }
    for (int c = 0; c < CHANNELS; ++c) {
        CHECK_CLOSE(dgamma[c], normalized[0]);
        CHECK_CLOSE(dbeta[c], 1);
    }
}

static void test_backward(void) {
    bnorm_plan* plan = new_plan(BNORM_BACKWARD);
    bnorm_plan* fixed = new_plan(BNORM_BACKWARD_FIXED);
    const float dy[ELEMENTS] = {1, 0, 0, 0, 1, 0, 0, 0};
    const float running_mean[CHANNELS] = {3, -30}, running_var[CHANNELS] = {5, 500};
    float dx[ELEMENTS], dgamma[CHANNELS], dbeta[CHANNELS];
    CHECK_OK(bnorm_backward(plan, &(bnorm_backward_args){.dy = dy,
                                                         .x = x,
                                                         .gamma = gamma_,
                                                         .mean = mean,
                                                         .inv_std = inv_std,
                                                         .dx = dx,
                                                         .dgamma = dgamma,
                                                         .dbeta = dbeta}));
    check_gradients(dx, dgamma, dbeta, 0);
    CHECK_OK(bnorm_backward_fixed(fixed, &(bnorm_backward_fixed_args){.dy = dy,
                                                                      .x = x,
                                                                      .gamma = gamma_,
                                                                      .running_mean = running_mean,
                                                                      .running_var = running_var,
                                                                      .dx = dx,
                                                                      .dgamma = dgamma,
                                                                      .dbeta = dbeta}));
    check_gradients(dx, dgamma, dbeta, 1);
    bnorm_plan_destroy(plan);
    bnorm_plan_destroy(fixed);
}

static void test_forward_building_blocks(void) {
    bnorm_plan* moments = new_plan(BNORM_MOMENTS);
    bnorm_plan* apply = new_plan(BNORM_APPLY);
    double count = 0, found_mean[CHANNELS], m2[CHANNELS], variance[CHANNELS];
    float y[ELEMENTS];
    CHECK_OK(bnorm_moments(moments, &(bnorm_moments_args){.x = x, .count = &count, .mean = found_mean, .m2 = m2}));
    CHECK_CLOSE(count, SPATIAL);
    CHECK_CLOSE(m2[1], 2000);
    CHECK_OK(bnorm_moments_merge(&(bnorm_moments_merge_args){.channels = CHANNELS,
                                                             .count_a = count,
                                                             .mean_a = found_mean,
                                                             .m2_a = m2,
                                                             .count_b = count,
                                                             .mean_b = found_mean,
                                                             .m2_b = m2,
                                                             .count = &count,
                                                             .mean = found_mean,
                                                             .m2 = m2}));
    CHECK_CLOSE(count, 2 * SPATIAL);
    CHECK_CLOSE(m2[1], 4000);
    CHECK_OK(bnorm_moments_finish(&(bnorm_moments_finish_args){
        .channels = CHANNELS, .count = count, .m2 = m2, .variance = variance, .inv_std = inv_std}));
    CHECK_CLOSE(variance[0], 5);
    CHECK_OK(bnorm_apply(
        apply,
        &(bnorm_apply_args){.x = x, .gamma = gamma_, .beta = beta, .mean = found_mean, .inv_std = inv_std, .y = y}));
    check_outputs(y);
    bnorm_plan_destroy(moments);
    bnorm_plan_destroy(apply);
}

static void test_gradient_building_blocks(void) {
    bnorm_plan* sums = new_plan(BNORM_GRADIENT_SUMS);
    bnorm_plan* apply = new_plan(BNORM_GRADIENT_APPLY);
    const float dy[ELEMENTS] = {1, 0, 0, 0, 1, 0, 0, 0};
    double sum_dy[CHANNELS], sum_dy_centered_x[CHANNELS];
    float dx[ELEMENTS], dgamma[CHANNELS], dbeta[CHANNELS];
    CHECK_OK(bnorm_gradient_sums(
        sums, &(bnorm_gradient_sums_args){
                  .dy = dy, .x = x, .mean = mean, .sum_dy = sum_dy, .sum_dy_centered_x = sum_dy_centered_x}));
    CHECK_CLOSE(sum_dy[0], 1);
    CHECK_CLOSE(sum_dy_centered_x[1], -30);
    CHECK_OK(bnorm_gradient_apply(apply, &(bnorm_gradient_apply_args){.dy = dy,
                                                                      .x = x,
                                                                      .gamma = gamma_,
                                                                      .mean = mean,
                                                                      .inv_std = inv_std,
                                                                      .sum_dy = sum_dy,
                                                                      .sum_dy_centered_x = sum_dy_centered_x,
                                                                      .count = SPATIAL,
                                                                      .dx = dx,
                                                                      .dgamma = dgamma,
                                                                      .dbeta = dbeta}));
    check_gradients(dx, dgamma, dbeta, 0);
    bnorm_plan_destroy(sums);
    bnorm_plan_destroy(apply);
}

static void test_folding(void) {
    const float running_mean[CHANNELS] = {3, -30}, running_var[CHANNELS] = {4, 400};
    const float weights[CHANNELS] = {5, 50}, bias[CHANNELS] = {1, 1};
    float scale[CHANNELS], shift[CHANNELS], folded_weights[CHANNELS], folded_bias[CHANNELS];
    CHECK_OK(bnorm_fold(&(bnorm_fold_args){.channels = CHANNELS,
                                           .gamma = gamma_,
                                           .beta = beta,
                                           .running_mean = running_mean,
                                           .running_var = running_var,
                                           .scale = scale,
                                           .shift = shift}));
    CHECK_CLOSE(scale[0], 1);
    CHECK_CLOSE(shift[1], 0.5);
    CHECK_OK(bnorm_fold_weights(&(bnorm_fold_weights_args){.layout = BNORM_WEIGHTS_DEPTHWISE,
                                                           .output_channels = CHANNELS,
                                                           .kernel_size = 1,
                                                           .weights = weights,
                                                           .bias = bias,
                                                           .gamma = gamma_,
                                                           .beta = beta,
                                                           .running_mean = running_mean,
                                                           .running_var = running_var,
                                                           .folded_weights = folded_weights,
                                                           .folded_bias = folded_bias}));
    CHECK_CLOSE(folded_weights[1], 2.5);
    CHECK_CLOSE(folded_bias[0], -1);
}

int main(void) {
    test_library();
    test_training();
    test_inference();
    test_backward();
    test_forward_building_blocks();
    test_gradient_building_blocks();
    test_folding();
    if (failures == 0) {
        puts("every function of the C API did what it should");
    }
    return failures == 0 ? 0 : 1;
}
