#include "base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/text.h"

struct block {
    bool is_v4;
    unsigned char bytes[16]; /* 4 are used for IPv4 */
    int64_t prefix;          /* leading bits that count */
};

static const unsigned char mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

/* An address alone, with the prefix that means "exactly this one". */
static bool read_address(struct str text, struct block *ret_block)
{
    char name[INET6_ADDRSTRLEN];
    struct block block = {0};
    if (!str_copy(name, sizeof name, text))
        return false;
    if (inet_pton(AF_INET, name, block.bytes) == 1) {
        block.is_v4 = true;
        block.prefix = 32;
    } else if (inet_pton(AF_INET6, name, block.bytes) == 1) {
        block.prefix = 128;
    } else {
        return false;
    }
    *ret_block = block;
    return true;
}

/* What stands in the IPv4 part of IPv6 (RFC 4291 §2.5.5.2) becomes IPv4. */
static void unmap(struct block *block)
{
    if (block->is_v4 || block->prefix < 96 ||
        memcmp(block->bytes, mapped_prefix, sizeof mapped_prefix) != 0)
        return;
    block->is_v4 = true;
    memmove(block->bytes, block->bytes + 12, 4);
    block->prefix -= 96;
}

static bool read_block(struct str item, struct block *ret_block)
{
    struct block block;
    bool has_prefix = str_find(item, '/') < item.len;
    if (!read_address(str_cut(&item, '/'), &block))
        return false;
    if (has_prefix && !text_parse_int(item, 0, block.prefix, &block.prefix))
        return false;
    unmap(&block);
    *ret_block = block;
    return true;
}

static bool block_holds(const struct block *block, const struct block *address)
{
    if (block->is_v4 != address->is_v4)
        return false;
    size_t whole = (size_t)block->prefix / 8;
    unsigned rest = (unsigned)block->prefix % 8;
    if (memcmp(block->bytes, address->bytes, whole) != 0)
        return false;
    return rest == 0 || ((block->bytes[whole] ^ address->bytes[whole]) >> (8 - rest)) == 0;
}

bool address_is_valid(struct str address)
{
    struct block block;
    return read_address(address, &block);
}

bool address_in_list(struct str list, struct str address)
{
    struct block peer;
    struct block block;
    if (!read_address(address, &peer))
        return false;
    unmap(&peer);
    while (list.len > 0)
        if (read_block(str_trim(str_cut(&list, ',')), &block) && block_holds(&block, &peer))
            return true;
    return false;
}

bool address_is_loopback(struct str host)
{
    return str_equal_nocase(host, STR("localhost")) ||
           address_in_list(STR("127.0.0.0/8,::1"), host);
}

bool address_list_is_valid(struct str list)
{
    struct block block;
    bool is_last;
    do {
        is_last = str_find(list, ',') == list.len;
        if (!read_block(str_trim(str_cut(&list, ',')), &block))
            return false;
    } while (!is_last);
    return true;
}
