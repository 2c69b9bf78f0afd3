# The flags that all our targets share: warnings, and the sanitizers if any.
add_library(bnorm_flags INTERFACE)
target_compile_options(bnorm_flags INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    target_compile_options(bnorm_flags INTERFACE
        $<$<COMPILE_LANGUAGE:CXX>:-Wreserved-identifier> $<$<COMPILE_LANGUAGE:CXX>:-Wzero-as-null-pointer-constant>)
endif()
if(BNORM_WARNINGS_AS_ERRORS)
    target_compile_options(bnorm_flags INTERFACE -Werror)
endif()
if(BNORM_SANITIZE)
    target_compile_options(bnorm_flags INTERFACE
        -fsanitize=${BNORM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    # All that a report needs, and half of the time to compile.
    target_compile_options(bnorm_flags INTERFACE -O1 -g1)
    target_link_options(bnorm_flags INTERFACE -fsanitize=${BNORM_SANITIZE})
endif()
