/* Included by every source file through the compiler's -include: names that do not compile. */
#ifndef COFFER_BASE_BANNED_H
#define COFFER_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* glibc makes macros of these for clang with _FORTIFY_SOURCE; a macro can't be poisoned. */
#undef sprintf
#undef vsprintf
#pragma GCC poison strcpy strcat strncat strncpy sprintf vsprintf gets strtok atoi atol atoll atof
#undef alloca
#pragma GCC poison gmtime localtime ctime asctime alloca

#endif
