/*
 * Statistics of a batch that is spread over workers ("sync batch norm"): each takes the moments of its own part, the
 * parts are merged, whatever their sizes, and every worker normalizes with the result. Here three parts of 5, 2 and 9
 * images are compared with the whole batch of 16.
 */
#include <bnorm/bnorm.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { IMAGES = 16, CHANNELS = 4, SPATIAL = 6 * 6, IMAGE = CHANNELS * SPATIAL };

typedef struct {
    double count, mean[CHANNELS], m2[CHANNELS];
} moments;

static void must(bnorm_status status) {
    if (status != BNORM_OK) {
        fprintf(stderr, "%s: %s\n", bnorm_status_text(status), bnorm_last_error());
        exit(1);
    }
}

static moments moments_of(const float* x, int images) {
    const bnorm_problem problem = {
        .operation = BNORM_MOMENTS, .layout = BNORM_NCHW, .batch = images, .channels = CHANNELS, .spatial = SPATIAL};
    moments found = {0};
    bnorm_plan* plan = NULL;
    must(bnorm_plan_create(&problem, &plan));
    must(bnorm_moments(plan, &(bnorm_moments_args){.x = x, .count = &found.count, .mean = found.mean, .m2 = found.m2}));
    bnorm_plan_destroy(plan);
    return found;
}

/* Merges `part` into `total`; a total of nothing is all zeros. */
static void merge(moments* total, const moments* part) {
    must(bnorm_moments_merge(&(bnorm_moments_merge_args){.channels = CHANNELS,
                                                         .count_a = total->count,
                                                         .mean_a = total->mean,
                                                         .m2_a = total->m2,
                                                         .count_b = part->count,
                                                         .mean_b = part->mean,
                                                         .m2_b = part->m2,
                                                         .count = &total->count,
                                                         .mean = total->mean,
                                                         .m2 = total->m2}));
}

int main(void) {
    static float x[IMAGES * IMAGE];
    const int parts[] = {5, 2, 9};
    for (int i = 0; i < IMAGES * IMAGE; ++i) {
        x[i] = (float)(sin(i) + 100.0 * (i / SPATIAL % CHANNELS));
    }

    moments total = {0};
    int first = 0;
    for (int worker = 0; worker < 3; ++worker) {
        const moments part = moments_of(x + (size_t)first * IMAGE, parts[worker]);
        merge(&total, &part);
        first += parts[worker];
    }
    const moments whole = moments_of(x, IMAGES);

    double inv_std[CHANNELS], variance[CHANNELS], largest = 0.0;
    must(bnorm_moments_finish(&(bnorm_moments_finish_args){.channels = CHANNELS,
                                                           .count = total.count,
                                                           .m2 = total.m2,
                                                           .epsilon = 1e-5,
                                                           .variance = variance,
                                                           .inv_std = inv_std}));
    for (int c = 0; c < CHANNELS; ++c) {
        printf("channel %d: %.0f values, mean %9.5f, variance %.5f, inv_std %.5f\n", c, total.count, total.mean[c],
               variance[c], inv_std[c]);
        largest = fmax(largest, fabs(total.m2[c] / whole.m2[c] - 1.0));
        largest = fmax(largest, fabs(total.mean[c] - whole.mean[c]));
    }
    printf("largest difference from the whole batch: %.1e\n", largest);
    return largest < 2e-7 && total.count == whole.count ? 0 : 1;
}
