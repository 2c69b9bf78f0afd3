# Debian packages, by cpack --preset deb: libbnorm<soversion>, libbnorm-dev, bnorm-bench.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_VENDOR "bnorm")
set(CPACK_PACKAGE_CONTACT "bnorm maintainers <maintainers@bnorm.invalid>")
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL runtime development benchmark)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
    WORLD_READ WORLD_EXECUTE)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/src)
set(full_version ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})
set(runtime_package libbnorm${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

set(about "bnorm computes batch normalization on CPUs: training forward, backward and
inference, with residual and activation fused in, vectorized for SSE2, AVX2
and AVX-512 and multithreaded.")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME ${runtime_package})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION "batch normalization kernels for CPUs - shared library\n${about}")
file(WRITE ${PROJECT_BINARY_DIR}/shlibs
    "libbnorm ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} ${runtime_package} (>= ${PROJECT_VERSION})\n")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/deb/triggers ${PROJECT_BINARY_DIR}/shlibs)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libbnorm-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${runtime_package} (= ${full_version}), libtbb-dev")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "batch normalization kernels for CPUs - development files\n${about}")
set(CPACK_DEBIAN_BENCHMARK_PACKAGE_NAME bnorm-bench)
set(CPACK_DEBIAN_BENCHMARK_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_BENCHMARK_PACKAGE_DEPENDS "${runtime_package} (= ${full_version})")
set(CPACK_COMPONENT_BENCHMARK_DESCRIPTION "batch normalization kernels for CPUs - benchmarks\n${about}")

# What Debian wants of every package: the changelog, compressed without a date, and the copyright.
find_program(gzip gzip)
if(gzip AND CMAKE_INSTALL_PREFIX STREQUAL "/usr")
    set(changelog ${PROJECT_BINARY_DIR}/changelog.Debian)
    configure_file(${CMAKE_CURRENT_LIST_DIR}/deb/changelog.in ${changelog} @ONLY)
    execute_process(COMMAND ${gzip} -9 --no-name --force --keep ${changelog} COMMAND_ERROR_IS_FATAL ANY)
    foreach(pair runtime:${runtime_package} development:libbnorm-dev benchmark:bnorm-bench)
        string(REPLACE ":" ";" pair ${pair})
        list(GET pair 0 component)
        list(GET pair 1 package)
        install(FILES ${changelog}.gz ${CMAKE_CURRENT_LIST_DIR}/deb/copyright
            DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} COMPONENT ${component})
    endforeach()
endif()
include(CPack)
