// The kernels of each ISA that this CPU has.
#ifndef BNORM_TESTS_KERNELS_TABLES_HPP
#define BNORM_TESTS_KERNELS_TABLES_HPP

#include <vector>

#include "kernels/kernel_table.hpp"
#include "runtime/cpu.hpp"

inline std::vector<const bnorm::kernels::KernelTable*> kernel_tables() {
    std::vector<const bnorm::kernels::KernelTable*> tables = {&bnorm::kernels::kSse2Kernels};
    if (bnorm::runtime::cpu_features().avx2) {
        tables.push_back(&bnorm::kernels::kAvx2Kernels);
    }
    if (bnorm::runtime::cpu_features().avx512) {
        tables.push_back(&bnorm::kernels::kAvx512Kernels);
    }
    return tables;
}

#endif
