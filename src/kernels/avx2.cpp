// The kernels for AVX2, FMA and F16C; src/CMakeLists.txt gives this file the flags.
#define BNORM_KERNEL_TABLE kAvx2Kernels
#include "kernels/table.inl"
