// What a failed call leaves behind, and the wall that no exception crosses.
#ifndef BNORM_API_ERROR_HPP
#define BNORM_API_ERROR_HPP

#include <new>

#include "bnorm/bnorm.h"

namespace bnorm::api {

// Stores the message for bnorm_last_error and returns the status. Formats as printf; long messages are cut.
__attribute__((format(printf, 2, 3))) bnorm_status fail(bnorm_status status, const char* format, ...) noexcept;

const char* last_error() noexcept;

// Runs the body of a public function: a callable that returns a status and may throw.
template <class Body>
bnorm_status guard(const char* function, const Body& body) noexcept {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return fail(BNORM_OUT_OF_MEMORY, "%s: not enough memory.", function);
    } catch (...) {
        return fail(BNORM_INTERNAL_ERROR, "%s: unexpected exception; this is a defect in bnorm.", function);
    }
}

} // namespace bnorm::api

#endif
