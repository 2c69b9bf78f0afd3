/*
 * Folds a batch norm into the weights and bias of the 1x1 convolution before it, so that a network that is only used
 * for inference needs no batch norm at all, and shows that the two networks give the same.
 */
#include <bnorm/bnorm.h>

#include <math.h>
#include <stdio.h>

enum { INPUTS = 3, OUTPUTS = 4, PIXELS = 10 };

/* output[o][p] = bias[o] + sum over i of weights[o][i] * input[i][p] */
static void convolve(const float* weights, const float* bias, const float* input, float* output) {
    for (int o = 0; o < OUTPUTS; ++o) {
        for (int p = 0; p < PIXELS; ++p) {
            float sum = bias[o];
            for (int i = 0; i < INPUTS; ++i) {
                sum += weights[o * INPUTS + i] * input[i * PIXELS + p];
            }
            output[o * PIXELS + p] = sum;
        }
    }
}

static bnorm_status normalize(const bnorm_fold_weights_args* norm, float* values) {
    const bnorm_problem problem = {.operation = BNORM_INFERENCE,
                                   .layout = BNORM_NCHW,
                                   .batch = 1,
                                   .channels = OUTPUTS,
                                   .spatial = PIXELS,
                                   .epsilon = norm->epsilon};
    const bnorm_inference_args args = {.x = values,
                                       .gamma = norm->gamma,
                                       .beta = norm->beta,
                                       .running_mean = norm->running_mean,
                                       .running_var = norm->running_var,
                                       .y = values};
    bnorm_plan* plan = NULL;
    bnorm_status status = bnorm_plan_create(&problem, &plan);
    if (status == BNORM_OK) {
        status = bnorm_inference(plan, &args);
    }
    bnorm_plan_destroy(plan);
    return status;
}

int main(void) {
    float weights[OUTPUTS * INPUTS], folded_weights[OUTPUTS * INPUTS], folded_bias[OUTPUTS];
    float input[INPUTS * PIXELS], separate[OUTPUTS * PIXELS], folded[OUTPUTS * PIXELS];
    const float bias[OUTPUTS] = {0.1F, 0.2F, 0.3F, 0.4F};
    const float gamma[OUTPUTS] = {1.0F, 2.0F, -1.0F, 0.5F}, beta[OUTPUTS] = {0.0F, 1.0F, 2.0F, 3.0F};
    const float running_mean[OUTPUTS] = {0.5F, -0.5F, 0.25F, 1.0F}, running_var[OUTPUTS] = {1.0F, 0.5F, 2.0F, 4.0F};
    for (int i = 0; i < OUTPUTS * INPUTS; ++i) {
        weights[i] = (float)sin(i + 1.0);
    }
    for (int i = 0; i < INPUTS * PIXELS; ++i) {
        input[i] = (float)cos(i);
    }

    const bnorm_fold_weights_args args = {.layout = BNORM_WEIGHTS_CONVOLUTION,
                                          .output_channels = OUTPUTS,
                                          .input_channels = INPUTS,
                                          .weights = weights,
                                          .bias = bias,
                                          .gamma = gamma,
                                          .beta = beta,
                                          .running_mean = running_mean,
                                          .running_var = running_var,
                                          .epsilon = 1e-5,
                                          .folded_weights = folded_weights,
                                          .folded_bias = folded_bias};
    convolve(weights, bias, input, separate);
    if (normalize(&args, separate) != BNORM_OK || bnorm_fold_weights(&args) != BNORM_OK) {
        fprintf(stderr, "%s\n", bnorm_last_error());
        return 1;
    }
    convolve(folded_weights, folded_bias, input, folded);

    double largest = 0.0;
    for (int i = 0; i < OUTPUTS * PIXELS; ++i) {
        largest = fmax(largest, fabs((double)folded[i] - (double)separate[i]));
    }
    printf("largest difference between folded and separate: %.1e\n", largest);
    return largest < 2e-6 ? 0 : 1;
}
