// The kernels for the x86-64 baseline; src/CMakeLists.txt gives this file the flags.
#define BNORM_KERNEL_TABLE kSse2Kernels
#include "kernels/table.inl"
