/*
 * Force-included by the static analysers alone (make lint): says what they can't see from one file,
 * that err_set and err_set_internal return the code they are given, so that `code != ERR_OK` after
 * them is no case to consider.
 */
#ifndef COFFER_TESTS_ANALYZE_H
#define COFFER_TESTS_ANALYZE_H

#include "base/errors.h"

#define err_set(err, code, ...) ((void)(err_set)((err), (code), __VA_ARGS__), (code))
#define err_set_internal(err, code, ...)                                                           \
    ((void)(err_set_internal)((err), (code), __VA_ARGS__), (code))

#endif
