/* For metadata.c, the drivers and their tests only: the drivers there are. */
#ifndef COFFER_METADATA_METADATA_DRIVERS_H
#define COFFER_METADATA_METADATA_DRIVERS_H

#include "metadata/metadata.h"

extern const struct metadata_driver metadata_sqlite_driver;

#endif
