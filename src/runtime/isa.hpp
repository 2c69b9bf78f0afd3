// Which table of kernels is in use: what the program asked for, else what BNORM_ISA names, else the best.
#ifndef BNORM_RUNTIME_ISA_HPP
#define BNORM_RUNTIME_ISA_HPP

#include "bnorm/bnorm.h"
#include "kernels/kernel_table.hpp"

namespace bnorm::runtime {

const char* isa_name(bnorm_isa isa); // nullptr: unknown
bool isa_is_available(bnorm_isa isa);
const kernels::KernelTable& kernel_table(bnorm_isa isa); // of an available ISA

// The ISA in use; BNORM_ISA_AUTO if BNORM_ISA names none that is available, in which case isa_from_environment() tells
// what it says.
bnorm_isa current_isa();
const char* isa_from_environment();
void set_isa(bnorm_isa isa); // available, or BNORM_ISA_AUTO

} // namespace bnorm::runtime

#endif
