/*
 * bnorm: batch normalization kernels for CPUs. This header is the whole public interface.
 *
 *     describe a problem  ->  bnorm_plan_create  ->  execute as often as wanted  ->  bnorm_plan_destroy
 *
 * Shapes.   A tensor has `batch` N, `channels` C and `spatial` S elements per channel and image; S is 1 for dense
 *           layers, W, H*W or D*H*W. BNORM_NCHW stores [N][C][S], BNORM_NHWC stores [N][S][C]; both stand for every
 *           number of spatial axes. Normalization is over the m = N*S elements of each channel. Per-channel arrays
 *           have C elements.
 * Types.    Data tensors (`const void*`, `void*`) hold the problem's data_type. gamma, beta, running statistics and
 *           their gradients are f32. Saved and intermediate statistics are f64: a few hundred values, and rounding them
 *           to f32 would lose what the reduction took care to keep.
 * Absent.   Zero-initialize every struct and name the members you use: a NULL pointer is an argument left out. Absent
 *           gamma means 1, beta 0, running_mean 0, running_var 1. Which members are required is said at each struct.
 * Aliasing. A data output may be exactly a data input of the same call (same address, same stride): in place. Any other
 *           overlap between an output and another argument is BNORM_INVALID_ARGUMENT. Inputs may overlap one another.
 *           Where two overlapping tensors have different strides, only their whole address ranges are compared.
 * Alignment. None is required; data aligned to 64 bytes is faster.
 * Threads.  Every function may be called from any thread. A plan is immutable: any number of threads may execute it at
 *           once, as long as their outputs are distinct. A call uses the oneTBB arena it is made from, or the threads
 *           that a host lends (bnorm_parallel_for); a call whose work is small never leaves the calling thread.
 * Results.  Identical to the bit for any number of threads, from run to run, and between BNORM_ISA_AVX2 and
 *           BNORM_ISA_AVX512. They depend on the problem alone. BNORM_ISA_SSE2 has no fused multiply-add and promises
 *           the same accuracy, not the same bits.
 * NaN, Inf. Propagate as IEEE 754 says, within their channel. Finite x never yields NaN in a forward operation unless
 *           an argument asks for it (epsilon = 0 on a constant channel: 0 * inf). Gradients overflow as f32 sums do.
 * Empty.    With N, C or S = 0 nothing is written but the sums that are defined (zero), and data pointers may be NULL.
 *           Statistics of an empty channel (C > 0, m = 0) are undefined: BNORM_INVALID_ARGUMENT.
 * Errors.   Functions that can fail return a bnorm_status. A failed call has written nothing; bnorm_last_error() tells
 *           which argument was at fault. Nothing aborts, prints or throws. Every function may return
 *           BNORM_INVALID_ARGUMENT; further statuses are said where they can occur.
 * Enums.    Are int32_t with named values, so that their size is the same for every compiler and language and an
 *           unknown value is an error with a message instead of undefined behaviour.
 */
#ifndef BNORM_BNORM_H
#define BNORM_BNORM_H

#include <stddef.h>
#include <stdint.h>

#include "bnorm/version.h"

#if defined(__GNUC__)
#define BNORM_API __attribute__((visibility("default")))
#else
#define BNORM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ------------------------------------------------------------------------------------------------------ */

typedef int32_t bnorm_status;
enum {
    BNORM_OK = 0,
    BNORM_INVALID_ARGUMENT = 1, /* an argument breaks its documented contract */
    BNORM_OUT_OF_MEMORY = 2,    /* scratch memory or a plan could not be allocated */
    BNORM_UNSUPPORTED = 3,      /* an ISA that this CPU or this build lacks, or an unknown name in BNORM_ISA */
    BNORM_INTERNAL_ERROR = 4    /* a defect in bnorm: please report it */
};

/* A short English name of a status, or "unknown status". Never NULL; static storage. */
BNORM_API const char* bnorm_status_text(bnorm_status status);

/* What the last failed call of the calling thread objected to, as a full sentence; "" if no call has failed. Valid
 * until the next failing call of the same thread. */
BNORM_API const char* bnorm_last_error(void);

/* ---- Library ----------------------------------------------------------------------------------------------------- */

/* "MAJOR.MINOR.PATCH" of the library. Static storage. */
BNORM_API const char* bnorm_version(void);

/* One line: version, compiler, xsimd and oneTBB versions, ISAs built in. Static storage. */
BNORM_API const char* bnorm_build_info(void);

typedef int32_t bnorm_isa;
enum {
    BNORM_ISA_AUTO = 0,  /* the best that CPU and operating system support */
    BNORM_ISA_SSE2 = 1,  /* x86-64 baseline */
    BNORM_ISA_AVX2 = 2,  /* AVX2, FMA, F16C */
    BNORM_ISA_AVX512 = 3 /* AVX-512 F, BW, DQ, VL */
};

/* "auto", "sse2", "avx2", "avx512", or "unknown". Static storage. */
BNORM_API const char* bnorm_isa_name(bnorm_isa isa);

/* 1 if this build and this machine can run the ISA (BNORM_ISA_AUTO: always 1), else 0. */
BNORM_API int32_t bnorm_isa_is_available(bnorm_isa isa);

/* The ISA that a plan created now would use; never BNORM_ISA_AUTO. It is, in this order: what bnorm_set_isa asked for,
 * what the environment variable BNORM_ISA names (read once, at the first use), the best available.
 * BNORM_UNSUPPORTED: BNORM_ISA is set to an unknown name or to an ISA that is not available here. */
BNORM_API bnorm_status bnorm_get_isa(bnorm_isa* isa);

/* Sets the ISA of plans created from now on, in the whole process; existing plans keep theirs. BNORM_ISA_AUTO returns
 * to the default, that is BNORM_ISA or the best. BNORM_UNSUPPORTED: not available here; nothing has changed. */
BNORM_API bnorm_status bnorm_set_isa(bnorm_isa isa);

/* How many threads a plan with problem.threads = 0 would use at most if it were created here: the concurrency of the
 * caller's oneTBB arena, which without one is the number of usable cores. At least 1. */
BNORM_API int32_t bnorm_thread_count(void);

/* ---- Problem ----------------------------------------------------------------------------------------------------- */

typedef int32_t bnorm_data_type;
enum { BNORM_F32 = 0 };

typedef int32_t bnorm_layout;
enum {
    BNORM_NCHW = 0, /* channels first: NC, NCW, NCHW, NCDHW */
    BNORM_NHWC = 1  /* channels last:  NC, NWC, NHWC, NDHWC */
};

/* Activations act on the normalized value v (with the residual added, if there is one). Their derivative at the kinks,
 * v = 0 and v = bound, is that of the constant side: 0 for ReLU, the slope for leaky ReLU. NaN stays NaN. */
typedef int32_t bnorm_activation;
enum {
    BNORM_IDENTITY = 0,
    BNORM_RELU = 1,        /* max(v, 0) */
    BNORM_LEAKY_RELU = 2,  /* v if v > 0, else activation_parameter * v; the parameter (slope) must be finite */
    BNORM_CLIPPED_RELU = 3 /* min(max(v, 0), activation_parameter); the parameter (bound) must be > 0. ReLU6: 6 */
};

/* What a plan executes. A plan serves one operation; executing another with it is BNORM_INVALID_ARGUMENT. */
typedef int32_t bnorm_operation;
enum {
    BNORM_TRAINING_FORWARD = 0, /* bnorm_training_forward */
    BNORM_INFERENCE = 1,        /* bnorm_inference */
    BNORM_BACKWARD = 2,         /* bnorm_backward: gradients through the batch statistics */
    BNORM_BACKWARD_FIXED = 3,   /* bnorm_backward_fixed: statistics are constants (frozen batch norm) */
    BNORM_MOMENTS = 4,          /* bnorm_moments */
    BNORM_APPLY = 5,            /* bnorm_apply */
    BNORM_GRADIENT_SUMS = 6,    /* bnorm_gradient_sums */
    BNORM_GRADIENT_APPLY = 7    /* bnorm_gradient_apply */
};

/* Part of a call's work; never throws, and returns without waiting for another part. */
typedef void (*bnorm_task)(void* argument, int32_t index);

/* A host's own threads, in place of oneTBB's: an inference engine's pool, OpenMP, std::thread.
 * run(context, count, task, argument) must call task(argument, index) once for every index in [0, count), on any
 * threads, at the same time or one after the other, and return when all calls have returned; count is at most
 * `threads`. It may be called from several threads at once if plans are executed so, and from within itself if a task
 * of the host executes a plan. It must not throw. An index that it leaves out costs speed only: the caller's thread
 * then does the work. Results are those of oneTBB to the bit. */
typedef struct bnorm_parallel_for {
    void (*run)(void* context, int32_t count, bnorm_task task, void* argument);
    void* context;   /* handed to run; must live as long as the plan */
    int32_t threads; /* >= 1: how many tasks can run at once */
} bnorm_parallel_for;

typedef struct bnorm_problem {
    bnorm_operation operation;
    bnorm_data_type data_type;
    bnorm_layout layout;
    int64_t batch;    /* N >= 0 */
    int64_t channels; /* C >= 0 */
    int64_t spatial;  /* S >= 0; the bytes of any tensor must fit int64 */

    /* Strides, in elements, of tensors that are channel slices of wider ones (a concatenation, say): the distance from
     * one row to the next, where a row is an image's C*S elements (BNORM_NCHW) or a pixel's C elements (BNORM_NHWC).
     * 0 means dense; otherwise at least the length of a row. */
    int64_t x_stride;        /* x and dx */
    int64_t y_stride;        /* y and dy */
    int64_t residual_stride; /* residual and dresidual */

    double epsilon; /* >= 0, added to the variance */

    bnorm_activation activation;
    float activation_parameter; /* slope or bound; ignored by the other activations */
    int32_t residual;           /* 1: a residual is added before the activation; 0: there is none */

    int32_t threads; /* at most this many; 0: bnorm_thread_count() at creation, or parallel_for->threads. Small work
                        uses fewer. */
    const bnorm_parallel_for* parallel_for; /* optional: the host's threads; absent: oneTBB. Copied by the plan. */
} bnorm_problem;

/* ---- Plan -------------------------------------------------------------------------------------------------------- */

typedef struct bnorm_plan bnorm_plan;

/* Checks the problem, chooses kernels and blocks, and stores a plan in *plan. The plan keeps no pointer to the problem.
 * BNORM_OUT_OF_MEMORY; BNORM_UNSUPPORTED as bnorm_get_isa. */
BNORM_API bnorm_status bnorm_plan_create(const bnorm_problem* problem, bnorm_plan** plan);

/* Frees a plan, which must not be executing. NULL is allowed. */
BNORM_API void bnorm_plan_destroy(bnorm_plan* plan);

typedef struct bnorm_plan_info {
    size_t scratch_bytes; /* what one execution needs; allocated at the first one, kept for the next. Executions that
                             overlap in time have one each. Below 1 % of a tensor plus 64 KiB a thread plus 48 bytes
                             a channel. */
    size_t mask_bytes;    /* size of the activation mask; 0 for the identity */
    int32_t threads;      /* the most threads that an execution uses */
    bnorm_isa isa;        /* fixed when the plan was created */
} bnorm_plan_info;

BNORM_API bnorm_status bnorm_plan_get_info(const bnorm_plan* plan, bnorm_plan_info* info);

/* ---- Whole operations -------------------------------------------------------------------------------------------- */
/* All of them: BNORM_OUT_OF_MEMORY if scratch memory cannot be allocated (first or overlapping execution only).
 *
 * The mask holds one bit an element: where the activation passes its argument on. Write it in a forward operation and
 * hand it to the matching backward one. It is opaque, its layout a function of the problem's layout, N, C, S and
 * strides, in which the two problems must agree. Without a residual, backward can do without: it computes the sign
 * again from x, gamma and beta, which costs nothing. With a residual and an activation, backward needs the mask.
 * mask_bytes must be at least the mask_bytes of the plan. */

/* How running statistics follow a batch's mean and variance; m = N*S, and m/(m-1) is taken as 1 for m = 1. */
typedef int32_t bnorm_running_update;
enum {
    /* running = (1-momentum)*running + momentum*batch, variance times m/(m-1): PyTorch, cuDNN, TensorFlow's fused op */
    BNORM_RUNNING_EXPONENTIAL = 0,
    /* running = momentum*running + (1-momentum)*batch, population variance: ONNX, oneDNN graph */
    BNORM_RUNNING_ONNX = 1,
    /* the mean over all batches: BNORM_RUNNING_EXPONENTIAL with momentum = 1/(batches_seen+1); momentum is ignored */
    BNORM_RUNNING_CUMULATIVE = 2
};

/* y = act(gamma*(x-mean)*inv_std + beta [+ residual]) with the mean and the population variance of this batch and
 * inv_std = 1/sqrt(variance + epsilon) (Ioffe and Szegedy 2015, algorithm 1). Needs x and y, and residual where the
 * problem has one; m must not be 0. */
typedef struct bnorm_training_forward_args {
    const void* x;        /* in  */
    const void* residual; /* in, iff problem.residual */
    const float* gamma;   /* in  [C], optional */
    const float* beta;    /* in  [C], optional */
    void* y;              /* out; may be x or residual */
    double* mean;         /* out [C], optional: saved for backward */
    double* inv_std;      /* out [C], optional: saved for backward */
    float* running_mean;  /* in and out [C], optional */
    float* running_var;   /* in and out [C], optional */
    bnorm_running_update running_update;
    double momentum;      /* any finite value; used only with running statistics */
    int64_t batches_seen; /* >= 0; used by BNORM_RUNNING_CUMULATIVE */
    void* mask;           /* out, optional; needs an activation */
    size_t mask_bytes;
} bnorm_training_forward_args;

BNORM_API bnorm_status bnorm_training_forward(const bnorm_plan* plan, const bnorm_training_forward_args* args);

/* As bnorm_training_forward, with running_mean and running_var in place of the batch's statistics, which are not
 * computed. Needs x and y, and residual where the problem has one. */
typedef struct bnorm_inference_args {
    const void* x;
    const void* residual;      /* iff problem.residual */
    const float* gamma;        /* [C], optional */
    const float* beta;         /* [C], optional */
    const float* running_mean; /* [C], optional */
    const float* running_var;  /* [C], optional; not negative */
    void* y;                   /* out; may be x or residual */
    void* mask;                /* out, optional; needs an activation: for bnorm_backward_fixed */
    size_t mask_bytes;
} bnorm_inference_args;

BNORM_API bnorm_status bnorm_inference(const bnorm_plan* plan, const bnorm_inference_args* args);

/* Gradients of bnorm_training_forward. With dy' = dy through the activation's derivative, sums over a channel, and
 * xhat = (x-mean)*inv_std:
 *     dx = gamma*inv_std * (dy' - sum(dy')/m - xhat*sum(dy'*xhat)/m)
 *     dresidual = dy',  dgamma = sum(dy'*xhat),  dbeta = sum(dy')        (Ioffe and Szegedy 2015, section 3)
 * Needs dy, x unless only dresidual or dbeta are wanted and the activation needs none, and at least one output. */
typedef struct bnorm_backward_args {
    const void* dy;        /* in */
    const void* x;         /* in: what forward was given */
    const float* gamma;    /* in [C], optional: what forward was given */
    const float* beta;     /* in [C], optional: what forward was given; read only to compute the activation's sign */
    const double* mean;    /* in [C]: saved by forward. If mean or inv_std is left out, it is computed again from x */
    const double* inv_std; /* in [C]: saved by forward */
    const void* mask;      /* in: written by forward; optional without residual */
    size_t mask_bytes;
    void* dx;        /* out, optional; may be dy or x */
    void* dresidual; /* out, optional, needs problem.residual; may be dy, if dx is not */
    float* dgamma;   /* out [C], optional */
    float* dbeta;    /* out [C], optional */
} bnorm_backward_args;

BNORM_API bnorm_status bnorm_backward(const bnorm_plan* plan, const bnorm_backward_args* args);

/* Gradients of bnorm_inference, whose statistics do not depend on x: dx = gamma*inv_std*dy', the rest as
 * bnorm_backward. Needs dy and at least one output; x for dgamma, and for the activation if there is no mask. */
typedef struct bnorm_backward_fixed_args {
    const void* dy;
    const void* x;
    const float* gamma;        /* [C], optional */
    const float* beta;         /* [C], optional; read only to compute the activation's sign */
    const float* running_mean; /* [C], optional: what bnorm_inference was given */
    const float* running_var;  /* [C], optional: what bnorm_inference was given */
    const void* mask;          /* optional without residual */
    size_t mask_bytes;
    void* dx;        /* out, optional; may be dy or x */
    void* dresidual; /* out, optional, needs problem.residual; may be dy, if dx is not */
    float* dgamma;   /* out [C], optional */
    float* dbeta;    /* out [C], optional */
} bnorm_backward_fixed_args;

BNORM_API bnorm_status bnorm_backward_fixed(const bnorm_plan* plan, const bnorm_backward_fixed_args* args);

/* ---- Building blocks --------------------------------------------------------------------------------------------- */
/* The two passes of each operation on their own, for statistics over several machines (sync batch norm), part of a
 * batch (ghost), many batches (precise), or data that arrives in pieces. Composed on one tensor they give bit for bit
 * what the whole operations give: bnorm_moments, bnorm_moments_finish, bnorm_apply are bnorm_training_forward;
 * bnorm_gradient_sums, bnorm_gradient_apply are bnorm_backward. */

/* Per channel: mean and M2 = sum((x-mean)^2) over the m = N*S elements, and count = m. An empty channel has count, mean
 * and M2 of 0, the neutral element of bnorm_moments_merge. Needs every member. */
typedef struct bnorm_moments_args {
    const void* x;
    double* count; /* out: one value, the same for all channels */
    double* mean;  /* out [C] */
    double* m2;    /* out [C] */
} bnorm_moments_args;

BNORM_API bnorm_status bnorm_moments(const bnorm_plan* plan, const bnorm_moments_args* args);

/* Merges the moments of two disjoint sets, of any two counts (Chan, Golub and LeVeque 1983):
 *     mean = mean_a + delta*count_b/count,  M2 = m2_a + m2_b + delta^2*count_a*count_b/count,  delta = mean_b - mean_a.
 * Counts are finite and not negative. Needs every pointer; outputs may be exactly the inputs of a or of b. */
typedef struct bnorm_moments_merge_args {
    int64_t channels; /* C >= 0 */
    double count_a;
    const double* mean_a; /* [C] */
    const double* m2_a;   /* [C] */
    double count_b;
    const double* mean_b; /* [C] */
    const double* m2_b;   /* [C] */
    double* count;        /* out: one value */
    double* mean;         /* out [C] */
    double* m2;           /* out [C] */
} bnorm_moments_merge_args;

BNORM_API bnorm_status bnorm_moments_merge(const bnorm_moments_merge_args* args);

/* Turns moments into what apply needs: variance = M2/count, inv_std = 1/sqrt(variance + epsilon); and updates running
 * statistics as bnorm_training_forward does. Needs m2 and a finite count > 0, mean for running_mean, and at least one
 * output. */
typedef struct bnorm_moments_finish_args {
    int64_t channels; /* C >= 0 */
    double count;
    const double* mean;  /* in [C] */
    const double* m2;    /* in [C] */
    double epsilon;      /* >= 0 */
    double* variance;    /* out [C], optional; may be m2 */
    double* inv_std;     /* out [C], optional; may be m2, if variance is not */
    float* running_mean; /* in and out [C], optional */
    float* running_var;  /* in and out [C], optional */
    bnorm_running_update running_update;
    double momentum;
    int64_t batches_seen;
} bnorm_moments_finish_args;

BNORM_API bnorm_status bnorm_moments_finish(const bnorm_moments_finish_args* args);

/* y = act(gamma*(x-mean)*inv_std + beta [+ residual]) for any mean and inv_std. Needs x, y, mean, inv_std, and residual
 * where the problem has one. To center without scaling hand inv_std = 1; to standardize leave gamma and beta out. */
typedef struct bnorm_apply_args {
    const void* x;
    const void* residual;  /* iff problem.residual */
    const float* gamma;    /* [C], optional */
    const float* beta;     /* [C], optional */
    const double* mean;    /* [C] */
    const double* inv_std; /* [C] */
    void* y;               /* out; may be x or residual */
    void* mask;            /* out, optional; needs an activation */
    size_t mask_bytes;
} bnorm_apply_args;

BNORM_API bnorm_status bnorm_apply(const bnorm_plan* plan, const bnorm_apply_args* args);

/* Per channel: sum(dy') and sum(dy'*(x-mean)). Needs dy, x, mean and both sums; inv_std where the activation's sign has
 * to be computed (an activation, and no mask). */
typedef struct bnorm_gradient_sums_args {
    const void* dy;
    const void* x;
    const float* gamma;    /* [C], optional */
    const float* beta;     /* [C], optional */
    const double* mean;    /* [C] */
    const double* inv_std; /* [C] */
    const void* mask;      /* optional without residual */
    size_t mask_bytes;
    double* sum_dy;            /* out [C] */
    double* sum_dy_centered_x; /* out [C] */
} bnorm_gradient_sums_args;

BNORM_API bnorm_status bnorm_gradient_sums(const bnorm_plan* plan, const bnorm_gradient_sums_args* args);

/* The second pass of bnorm_backward from sums over `count` elements a channel, which may be more than this tensor's:
 * add the sums of all parts first. Needs dy, x, mean, inv_std, both sums, a finite count > 0, and an output. */
typedef struct bnorm_gradient_apply_args {
    const void* dy;
    const void* x;
    const float* gamma;              /* [C], optional */
    const float* beta;               /* [C], optional */
    const double* mean;              /* [C] */
    const double* inv_std;           /* [C] */
    const double* sum_dy;            /* [C] */
    const double* sum_dy_centered_x; /* [C] */
    double count;
    const void* mask; /* optional without residual */
    size_t mask_bytes;
    void* dx;        /* out, optional; may be dy or x */
    void* dresidual; /* out, optional, needs problem.residual; may be dy, if dx is not */
    float* dgamma;   /* out [C], optional */
    float* dbeta;    /* out [C], optional */
} bnorm_gradient_apply_args;

BNORM_API bnorm_status bnorm_gradient_apply(const bnorm_plan* plan, const bnorm_gradient_apply_args* args);

/* ---- Folding for inference --------------------------------------------------------------------------------------- */
/* Folding writes the affine function as scale*x + shift, which loses about |mean|/std digits that bnorm_inference
 * keeps: it is for those who can then drop the layer altogether. Both run in the calling thread, in f64, and round
 * once. */

/* scale = gamma/sqrt(running_var+epsilon), shift = beta - scale*running_mean. Needs scale and shift. */
typedef struct bnorm_fold_args {
    int64_t channels;          /* C >= 0 */
    const float* gamma;        /* [C], optional */
    const float* beta;         /* [C], optional */
    const float* running_mean; /* [C], optional */
    const float* running_var;  /* [C], optional; not negative */
    double epsilon;            /* >= 0 */
    float* scale;              /* out [C]; may be any of the inputs */
    float* shift;              /* out [C]; may be any of the inputs, if scale is not */
} bnorm_fold_args;

BNORM_API bnorm_status bnorm_fold(const bnorm_fold_args* args);

/* Order of a weight array; K = kernel_size, all kernel axes together; G = groups. */
typedef int32_t bnorm_weights_layout;
enum {
    BNORM_WEIGHTS_CONVOLUTION = 0, /* [output_channels][input_channels/G][K] (OIHW) */
    BNORM_WEIGHTS_TRANSPOSED = 1,  /* [input_channels][output_channels/G][K] (IOHW) */
    BNORM_WEIGHTS_DEPTHWISE = 2,   /* [output_channels][1][K]; input_channels and groups are ignored */
    BNORM_WEIGHTS_LINEAR = 3       /* [output_channels][input_channels]; kernel_size and groups are ignored */
};

/* Folds a batch norm that follows a layer into the layer's weights:
 *     weights' = weights*scale[output channel],  bias' = (bias - running_mean)*scale + beta,  scale as in bnorm_fold.
 * Needs weights, folded_weights and folded_bias; G must divide both channel counts. */
typedef struct bnorm_fold_weights_args {
    bnorm_weights_layout layout;
    int64_t output_channels;   /* the channels of the batch norm, C >= 0 */
    int64_t input_channels;    /* >= 0 */
    int64_t kernel_size;       /* >= 0; 0 means 1 */
    int64_t groups;            /* >= 0; 0 means 1 */
    const float* weights;      /* in  */
    const float* bias;         /* in  [C], optional: absent is 0 */
    const float* gamma;        /* in  [C], optional */
    const float* beta;         /* in  [C], optional */
    const float* running_mean; /* in  [C], optional */
    const float* running_var;  /* in  [C], optional; not negative */
    double epsilon;            /* >= 0 */
    float* folded_weights;     /* out; may be weights */
    float* folded_bias;        /* out [C]; may be bias */
} bnorm_fold_weights_args;

BNORM_API bnorm_status bnorm_fold_weights(const bnorm_fold_weights_args* args);

#ifdef __cplusplus
}
#endif

#endif
