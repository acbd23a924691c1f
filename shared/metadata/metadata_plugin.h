/*
 * The MongoDB driver is an object of its own, coffer-mongodb.so beside the programs: libmongoc and
 * what it loads take a megabyte in every process, also where nothing uses them. It is loaded the
 * first time it is asked for, and stays. Thread-safe.
 */
#ifndef COFFER_METADATA_METADATA_PLUGIN_H
#define COFFER_METADATA_METADATA_PLUGIN_H

#include "metadata/metadata.h"

/* The driver linked into this program (tests), else that of the object. ERR_CONFIG, saying why, when
 * there is none. */
enum err_code metadata_plugin_mongodb(const struct metadata_driver **ret_driver, struct err *err)
    ERR_MUST_CHECK;

#endif
