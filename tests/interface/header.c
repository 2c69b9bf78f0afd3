/* The header alone, compiled as C11 and (by header.cpp) as C++ with every warning an error. */
#include <bnorm/bnorm.h>

/* Enums and structs must be usable at file scope, and have the same size for every compiler. */
_Static_assert(sizeof(bnorm_status) == 4 && sizeof(bnorm_isa) == 4 && sizeof(bnorm_operation) == 4,
               "enums are int32_t");
static const bnorm_problem problem = {.operation = BNORM_TRAINING_FORWARD, .layout = BNORM_NHWC};

bnorm_operation header_in_c(void);
bnorm_operation header_in_c(void) { return problem.operation; }
