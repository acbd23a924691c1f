#include "base/id.h"

#include <stdatomic.h>
#include <stdint.h>

#include "base/text.h"

#define COUNTER_BITS 12
#define TIME_MS_MAX ((UINT64_C(1) << 48) - 1)

/* The last (ms << 12 | counter) that was given out. */
static _Atomic uint64_t last_moment;

/* The clock's own millisecond when it moved on, else the last moment plus one: a clock that goes
 * back, or more than 4096 ids in a millisecond, only run ahead of the clock. */
static uint64_t next_moment(const struct clock *clock)
{
    int64_t wall_ms = clock_wall_ms(clock);
    uint64_t ms = wall_ms > 0 ? (uint64_t)wall_ms : 0;
    uint64_t now = (ms <= TIME_MS_MAX ? ms : TIME_MS_MAX) << COUNTER_BITS;
    uint64_t last = atomic_load_explicit(&last_moment, memory_order_relaxed);
    uint64_t next;
    do {
        next = now > last ? now : last + 1;
    } while (!atomic_compare_exchange_weak_explicit(&last_moment, &last, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return next;
}

void id_new(const struct clock *clock, char target[ID_SIZE])
{
    unsigned char bytes[16];
    uint64_t moment = next_moment(clock);
    uint64_t ms = moment >> COUNTER_BITS;
    clock_random(clock, bytes + 8, 8);
    for (int i = 0; i < 6; i++)
        bytes[i] = (unsigned char)(ms >> (40 - 8 * i));
    bytes[6] = (unsigned char)(0x70 | (moment >> 8 & 0x0F));
    bytes[7] = (unsigned char)(moment & 0xFF);
    bytes[8] = (unsigned char)(0x80 | (bytes[8] & 0x3F));

    char digits[33];
    text_hex(bytes, sizeof bytes, digits);
    const char *from = digits;
    for (int i = 0; i < ID_LENGTH; i++)
        target[i] = i == 8 || i == 13 || i == 18 || i == 23 ? '-' : *from++;
    target[ID_LENGTH] = '\0';
}

bool id_is_valid(struct str text)
{
    static const char shape[] = "xxxxxxxx-xxxx-7xxx-yxxx-xxxxxxxxxxxx";
    if (text.len != ID_LENGTH)
        return false;
    for (size_t i = 0; i < ID_LENGTH; i++) {
        char byte = text.data[i];
        bool is_hex = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
        bool is_variant = byte == '8' || byte == '9' || byte == 'a' || byte == 'b';
        bool fits = shape[i] == 'x' ? is_hex : shape[i] == 'y' ? is_variant : byte == shape[i];
        if (!fits)
            return false;
    }
    return true;
}
