/*
 * The end of a residual block at inference, in one pass over memory: y = relu(batch_norm(x) + residual), written over
 * x. Then the same values from the formula, one by one, and how far the two are apart at most.
 */
#include <bnorm/bnorm.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BATCH = 2, CHANNELS = 3, HEIGHT = 5, WIDTH = 7, ELEMENTS = BATCH * CHANNELS * HEIGHT * WIDTH };

static double expected(float x, float residual, const bnorm_inference_args* args, int channel, double epsilon) {
    const double normalized = (x - args->running_mean[channel]) / sqrt(args->running_var[channel] + epsilon);
    return fmax(args->gamma[channel] * normalized + args->beta[channel] + residual, 0.0);
}

int main(void) {
    const bnorm_problem problem = {.operation = BNORM_INFERENCE,
                                   .layout = BNORM_NCHW,
                                   .batch = BATCH,
                                   .channels = CHANNELS,
                                   .spatial = (int64_t)HEIGHT * WIDTH,
                                   .epsilon = 1e-5,
                                   .activation = BNORM_RELU,
                                   .residual = 1};
    const float gamma[CHANNELS] = {1.0F, 0.5F, -2.0F};
    const float beta[CHANNELS] = {0.0F, 1.0F, 0.25F};
    const float running_mean[CHANNELS] = {0.5F, -1.0F, 3.0F};
    const float running_var[CHANNELS] = {1.0F, 4.0F, 0.25F};
    float x[ELEMENTS], before[ELEMENTS], residual[ELEMENTS];
    for (int i = 0; i < ELEMENTS; ++i) {
        x[i] = (float)sin(i) * 2.0F;
        residual[i] = (float)cos(3.0 * i);
    }
    memcpy(before, x, sizeof x);

    const bnorm_inference_args args = {.x = x,
                                       .residual = residual,
                                       .gamma = gamma,
                                       .beta = beta,
                                       .running_mean = running_mean,
                                       .running_var = running_var,
                                       .y = x};
    bnorm_plan* plan = NULL;
    if (bnorm_plan_create(&problem, &plan) != BNORM_OK || bnorm_inference(plan, &args) != BNORM_OK) {
        fprintf(stderr, "%s\n", bnorm_last_error());
        bnorm_plan_destroy(plan);
        return 1;
    }
    bnorm_plan_destroy(plan);

    double largest = 0.0;
    for (int i = 0; i < ELEMENTS; ++i) {
        const int channel = i / (HEIGHT * WIDTH) % CHANNELS;
        const double exact = expected(before[i], residual[i], &args, channel, problem.epsilon);
        largest = fmax(largest, fabs((double)x[i] - exact) / fmax(1.0, exact));
    }
    printf("largest relative difference from the formula: %.1e\n", largest);
    return largest < 2e-7 ? 0 : 1;
}
