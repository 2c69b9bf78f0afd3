/* Run with BNORM_ISA set to something that is no ISA: an error whose message quotes it, never a silent fallback. */
#include <bnorm/bnorm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static void check(int condition, const char* what) {
    if (!condition) {
        fprintf(stderr, "failed: %s; last error: %s\n", what, bnorm_last_error());
        ++failures;
    }
}

int main(void) {
    const char* value = getenv("BNORM_ISA");
    bnorm_problem problem = {0};
    bnorm_plan* plan = NULL;
    bnorm_isa isa = 77;
    check(value != NULL, "BNORM_ISA is set");
    check(bnorm_get_isa(&isa) == BNORM_UNSUPPORTED && isa == 77, "bnorm_get_isa refuses");
    check(value != NULL && strstr(bnorm_last_error(), value) != NULL, "the message quotes the variable");
    check(bnorm_plan_create(&problem, &plan) == BNORM_UNSUPPORTED && plan == NULL, "bnorm_plan_create refuses");
    check(bnorm_set_isa(BNORM_ISA_SSE2) == BNORM_OK, "the program can still choose");
    check(bnorm_plan_create(&problem, &plan) == BNORM_OK, "and then goes on");
    bnorm_plan_destroy(plan);
    return failures == 0 ? 0 : 1;
}
