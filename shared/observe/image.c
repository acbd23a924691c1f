#include "observe/image.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

static size_t aligned(size_t size)
{
    return (size + 3) & ~(size_t)3;
}

/* Addresses as they stand in headers are numbers. */
static const void *at_address(uintptr_t address)
{
    return (const void *)address; /* NOLINT(performance-no-int-to-ptr) */
}

static bool is_build_id(const ElfW(Nhdr) * note)
{
    return note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
           memcmp(note + 1, "GNU", 4) == 0 && note->n_descsz < IMAGE_BUILD_ID_SIZE / 2;
}

static void write_hex(const unsigned char *bytes, size_t len, char *target)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        target[2 * i] = digits[bytes[i] >> 4];
        target[2 * i + 1] = digits[bytes[i] & 15];
    }
    target[2 * len] = '\0';
}

/* The build-id among the notes at `at`. No function of libc that may wait: see image_of. */
static void read_notes(const char *at, size_t len, char build_id[IMAGE_BUILD_ID_SIZE])
{
    while (len >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const void *)at;
        size_t head = sizeof *note + aligned(note->n_namesz);
        size_t size = head + aligned(note->n_descsz);
        if (size > len)
            return;
        if (is_build_id(note)) {
            write_hex((const unsigned char *)at + head, note->n_descsz, build_id);
            return;
        }
        at += size;
        len -= size;
    }
}

static void read_build_id(const ElfW(Phdr) * headers, size_t count, uintptr_t base,
                          char build_id[IMAGE_BUILD_ID_SIZE])
{
    build_id[0] = '\0';
    for (size_t i = 0; i < count && build_id[0] == '\0'; i++)
        if (headers[i].p_type == PT_NOTE)
            read_notes(at_address(base + headers[i].p_vaddr), headers[i].p_memsz, build_id);
}

bool image_of(uintptr_t address, struct image *ret_image)
{
    struct dl_find_object found;
    void *inside = (void *)address; /* NOLINT(performance-no-int-to-ptr) */
    if (_dl_find_object(inside, &found) != 0 || !found.dlfo_link_map)
        return false;
    const ElfW(Ehdr) *header = found.dlfo_map_start;
    ret_image->start = (uintptr_t)found.dlfo_map_start;
    ret_image->size = (uintptr_t)found.dlfo_map_end - ret_image->start;
    ret_image->file = found.dlfo_link_map->l_name ? found.dlfo_link_map->l_name : "";
    ret_image->build_id[0] = '\0';
    if (ret_image->size >= sizeof *header && memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
        header->e_phoff < ret_image->size)
        read_build_id(at_address(ret_image->start + header->e_phoff), header->e_phnum,
                      found.dlfo_link_map->l_addr, ret_image->build_id);
    return true;
}

struct search {
    const char *build_id;
    struct image *image;
};

static int compare(struct dl_phdr_info *info, size_t size, void *context)
{
    const struct search *search = context;
    char build_id[IMAGE_BUILD_ID_SIZE];
    (void)size;
    read_build_id(info->dlpi_phdr, info->dlpi_phnum, info->dlpi_addr, build_id);
    if (strcmp(build_id, search->build_id) != 0)
        return 0;
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            return image_of(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, search->image);
    return 0;
}

bool image_with_build_id(const char *build_id, struct image *ret_image)
{
    struct search search = {build_id, ret_image};
    return *build_id && dl_iterate_phdr(compare, &search) != 0;
}

static int read_count(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    *(unsigned long long *)context = info->dlpi_adds;
    return 1;
}

unsigned long long images_loaded(void)
{
    unsigned long long count = 0;
    dl_iterate_phdr(read_count, &count);
    return count;
}
