/*
 * The file object of API.md, its entity tags, and the answer that carries one.
 */
#ifndef COFFER_FILES_FILE_JSON_H
#define COFFER_FILES_FILE_JSON_H

#include "base/str.h"
#include "http/range_condition.h"
#include "metadata/file.h"

#define FILE_TAG_SIZE 32

void file_json_write(struct buf *out, const char *name, const struct file *file);
/* The version's tag without quotes, "v3": every change moves it. */
void file_version_tag(const struct file *file, char target[FILE_TAG_SIZE]);
/* "/api/files/{id}" into target. */
#define FILE_PATH_SIZE 64
void file_path(const struct file *file, char target[FILE_PATH_SIZE]);

#endif
