// The header alone, included twice, compiled as C++11.
#include <bnorm/bnorm.h>

static_assert(sizeof(bnorm_status) == 4 && sizeof(bnorm_isa) == 4 && sizeof(bnorm_operation) == 4, "enums are int32_t");
bnorm_problem header_in_cpp();
bnorm_problem header_in_cpp() { return bnorm_problem(); }
