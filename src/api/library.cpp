// What is not about a plan: status texts, version, ISA, threads.
#include "api/error.hpp"
#include "build_info.hpp"
#include "runtime/isa.hpp"
#include "runtime/parallel.hpp"

#define BNORM_TEXT_OF(value) #value
#define BNORM_TEXT(value) BNORM_TEXT_OF(value)

using namespace bnorm;

const char* bnorm_status_text(bnorm_status status) {
    switch (status) {
    case BNORM_OK: return "ok";
    case BNORM_INVALID_ARGUMENT: return "invalid argument";
    case BNORM_OUT_OF_MEMORY: return "out of memory";
    case BNORM_UNSUPPORTED: return "unsupported";
    case BNORM_INTERNAL_ERROR: return "internal error";
    default: return "unknown status";
    }
}

const char* bnorm_last_error(void) { return api::last_error(); }

const char* bnorm_version(void) {
    return BNORM_TEXT(BNORM_VERSION_MAJOR) "." BNORM_TEXT(BNORM_VERSION_MINOR) "." BNORM_TEXT(BNORM_VERSION_PATCH);
}

const char* bnorm_build_info(void) { return BNORM_BUILD_INFO; }

const char* bnorm_isa_name(bnorm_isa isa) {
    const char* name = runtime::isa_name(isa);
    return name != nullptr ? name : "unknown";
}

int32_t bnorm_isa_is_available(bnorm_isa isa) { return runtime::isa_is_available(isa) ? 1 : 0; }

bnorm_status bnorm_get_isa(bnorm_isa* isa) {
    if (isa == nullptr) {
        return api::fail(BNORM_INVALID_ARGUMENT, "bnorm_get_isa: isa is NULL.");
    }
    const bnorm_isa current = runtime::current_isa();
    if (current == BNORM_ISA_AUTO) {
        return api::fail(
            BNORM_UNSUPPORTED,
            "The environment variable BNORM_ISA is \"%s\", which is not one of auto, sse2, avx2, avx512, or "
            "not available on this CPU.",
            runtime::isa_from_environment());
    }
    *isa = current;
    return BNORM_OK;
}

bnorm_status bnorm_set_isa(bnorm_isa isa) {
    if (runtime::isa_name(isa) == nullptr) {
        return api::fail(BNORM_INVALID_ARGUMENT, "bnorm_set_isa: isa is %d, which is no bnorm_isa.",
                         static_cast<int>(isa));
    }
    if (!runtime::isa_is_available(isa)) {
        return api::fail(BNORM_UNSUPPORTED, "bnorm_set_isa: %s is not available on this CPU.", runtime::isa_name(isa));
    }
    runtime::set_isa(isa);
    return BNORM_OK;
}

int32_t bnorm_thread_count(void) { return runtime::available_threads(); }
