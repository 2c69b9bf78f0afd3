/* A training step and inference of batch norm with ReLU through the C API, checked against what PyTorch computed:
 *   golden_step tests/golden/nchw_relu.f32 */
#include <bnorm/bnorm.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 2, C = 19, S = 7 * 7, ELEMENTS = N * C * S };

/* The file's arrays in their order: see tests/golden/generate.py. */
static struct {
    float x[ELEMENTS], gamma[C], beta[C], residual[ELEMENTS], running_mean[C], running_var[C], dy[ELEMENTS];
    float y[ELEMENTS], next_running_mean[C], next_running_var[C], dx[ELEMENTS], dresidual[ELEMENTS], dgamma[C],
        dbeta[C];
    float y_inference[ELEMENTS], dx_inference[ELEMENTS];
} golden;

static void check(bnorm_status status) {
    if (status != BNORM_OK) {
        fprintf(stderr, "%s\n", bnorm_last_error());
        exit(1);
    }
}

static bnorm_plan* make_plan(bnorm_operation operation) {
    const bnorm_problem problem = {.operation = operation,
                                   .layout = BNORM_NCHW,
                                   .batch = N,
                                   .channels = C,
                                   .spatial = S,
                                   .epsilon = 1e-5,
                                   .activation = BNORM_RELU};
    bnorm_plan* plan = NULL;
    check(bnorm_plan_create(&problem, &plan));
    return plan;
}

static void expect(const char* name, const float* got, const float* expected, int count) {
    for (int i = 0; i < count; ++i) {
        if (!(fabsf(got[i] - expected[i]) <= 5e-6F * (1.0F + fabsf(expected[i])))) {
            fprintf(stderr, "%s[%d] is %g instead of %g\n", name, i, got[i], expected[i]);
            exit(1);
        }
    }
}

int main(int argc, char** argv) {
    FILE* file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL || fread(&golden, sizeof golden, 1, file) != 1) {
        fprintf(stderr, "usage: golden_step tests/golden/nchw_relu.f32\n");
        return 2;
    }
    fclose(file);
    static float y[ELEMENTS], dx[ELEMENTS], dgamma[C], dbeta[C];
    static double mean[C], inv_std[C];

    bnorm_plan* inference = make_plan(BNORM_INFERENCE);
    check(bnorm_inference(inference, &(bnorm_inference_args){.x = golden.x,
                                                             .gamma = golden.gamma,
                                                             .beta = golden.beta,
                                                             .running_mean = golden.running_mean,
                                                             .running_var = golden.running_var,
                                                             .y = y}));
    bnorm_plan_destroy(inference);
    expect("y of inference", y, golden.y_inference, ELEMENTS);

    bnorm_plan* forward = make_plan(BNORM_TRAINING_FORWARD);
    check(bnorm_training_forward(forward, &(bnorm_training_forward_args){.x = golden.x,
                                                                         .gamma = golden.gamma,
                                                                         .beta = golden.beta,
                                                                         .y = y,
                                                                         .mean = mean,
                                                                         .inv_std = inv_std,
                                                                         .running_mean = golden.running_mean,
                                                                         .running_var = golden.running_var,
                                                                         .momentum = 0.1}));
    bnorm_plan_destroy(forward);
    expect("y", y, golden.y, ELEMENTS);
    expect("running_mean", golden.running_mean, golden.next_running_mean, C);
    expect("running_var", golden.running_var, golden.next_running_var, C);

    bnorm_plan* backward = make_plan(BNORM_BACKWARD);
    check(bnorm_backward(backward, &(bnorm_backward_args){.dy = golden.dy,
                                                          .x = golden.x,
                                                          .gamma = golden.gamma,
                                                          .beta = golden.beta,
                                                          .mean = mean,
                                                          .inv_std = inv_std,
                                                          .dx = dx,
                                                          .dgamma = dgamma,
                                                          .dbeta = dbeta}));
    bnorm_plan_destroy(backward);
    expect("dx", dx, golden.dx, ELEMENTS);
    expect("dgamma", dgamma, golden.dgamma, C);
    expect("dbeta", dbeta, golden.dbeta, C);
    printf("C: training and inference are PyTorch's (bnorm %s)\n", bnorm_version());
    return 0;
}
