#include "api/error.hpp"

#include <cstdarg>
#include <cstdio>

namespace bnorm::api {
namespace {

thread_local char message[256] = "";

} // namespace

bnorm_status fail(bnorm_status status, const char* format, ...) noexcept {
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return status;
}

const char* last_error() noexcept { return message; }

} // namespace bnorm::api
