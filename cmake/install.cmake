# Headers, libraries, the CMake package bnorm::bnorm and bnorm.pc, all relocatable.
include(CMakePackageConfigHelpers)

install(TARGETS bnorm bnorm_static EXPORT bnorm_targets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/bnorm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/bnorm)
install(EXPORT bnorm_targets NAMESPACE bnorm:: FILE bnorm-targets.cmake DESTINATION ${package_folder}
    COMPONENT development)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/bnorm-config.cmake.in
    ${PROJECT_BINARY_DIR}/bnorm-config.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/bnorm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/bnorm-config.cmake ${PROJECT_BINARY_DIR}/bnorm-config-version.cmake
    DESTINATION ${package_folder} COMPONENT development)

# ${pcfiledir} is where the file is found: prefix follows it wherever the tree is moved.
file(RELATIVE_PATH BNORM_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${CMAKE_CURRENT_LIST_DIR}/bnorm.pc.in ${PROJECT_BINARY_DIR}/bnorm.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/bnorm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

# For the wheel of bindings/python: the library alone. Wheels hold no symbolic links.
if(SKBUILD)
    install(FILES $<TARGET_FILE:bnorm> DESTINATION . RENAME libbnorm.so COMPONENT python)
endif()
