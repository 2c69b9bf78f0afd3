// The kernels for AVX-512 F, BW, DQ and VL; src/CMakeLists.txt gives this file the flags.
#define BNORM_KERNEL_TABLE kAvx512Kernels
#include "kernels/table.inl"
