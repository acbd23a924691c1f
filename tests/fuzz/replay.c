/*
 * Runs a fuzzer over the files named, or over all files of the folders named: for compilers without
 * libFuzzer, and so that a finding once kept is tried with every `make test`.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_BYTES_MAX (1024L * 1024)

static unsigned inputs;

/* The bytes in a block of exactly their size, so that a read past the end is seen. */
static uint8_t *read_file(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(INPUT_BYTES_MAX);
    if (!file || !bytes) {
        perror(path);
        exit(2);
    }
    size_t size = fread(bytes, 1, INPUT_BYTES_MAX, file);
    if (ferror(file)) {
        perror(path);
        exit(2);
    }
    fclose(file);
    uint8_t *exact = realloc(bytes, size ? size : 1);
    *ret_size = size;
    return exact ? exact : bytes;
}

static void run_file(const char *path)
{
    size_t size = 0;
    uint8_t *bytes = read_file(path, &size);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    inputs++;
}

static void run_folder(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        perror(path);
        exit(2);
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        run_file(name);
    }
    closedir(folder);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat status;
        if (stat(argv[i], &status) != 0) {
            perror(argv[i]);
            return 2;
        }
        if (S_ISDIR(status.st_mode))
            run_folder(argv[i]);
        else
            run_file(argv[i]);
    }
    printf("%s: %u inputs\n", argv[0], inputs);
    return inputs > 0 ? 0 : 2;
}
