/* The version of the bnorm headers; bnorm_version() tells that of the library that is linked. */
#ifndef BNORM_VERSION_H
#define BNORM_VERSION_H

#define BNORM_VERSION_MAJOR 0
#define BNORM_VERSION_MINOR 1
#define BNORM_VERSION_PATCH 0

#endif
