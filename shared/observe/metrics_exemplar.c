/*
 * Exemplars: of each bucket the last traced value. One is EXEMPLAR_WORDS words of its slot. The
 * first is its version: the time in ms, a number of 16 bits that every write moves, and in the
 * lowest bit whether somebody is writing. A thread that finds the bit set leaves its own value: the
 * other's is as new. A reader takes what it read only when the version was the same before and
 * after. So nobody waits, and no reader sees half of one exemplar and half of another. Whoever is
 * killed while writing leaves the bit set; the slot's next owner clears such an exemplar.
 *
 * Order without fences, which ThreadSanitizer does not know: the writer's stores are releases, so
 * that whoever sees one of them also sees the bit; the reader's loads are acquires, so that the
 * second load of the version is not earlier than they.
 */
#include "observe/metrics_table.h"

enum exemplar_word { WORD_VERSION, WORD_TRACE_HIGH, WORD_TRACE_LOW, WORD_VALUE, WORD_COUNT };

static_assert(WORD_COUNT == EXEMPLAR_WORDS, "the layout has room for them");

#define WRITING UINT64_C(1)
#define NUMBER_BITS 16
#define NUMBER_MASK ((UINT64_C(1) << NUMBER_BITS) - 1)
#define NUMBER_STEP 2
#define TRACE_ID_LEN 32
#define READ_TRIES 3

/* Every byte's value as a lower-case hex digit plus 1; 0: it is none. */
static const unsigned char digit_plus_one[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16};

/* 16 lower-case hex digits; false when they are not. */
static bool read_hex(const char *text, uint64_t *ret_word)
{
    uint64_t word = 0;
    for (int i = 0; i < TRACE_ID_LEN / 2; i++) {
        unsigned value = digit_plus_one[(unsigned char)text[i]];
        if (value == 0) /* the NUL of a shorter text ends here, too */
            return false;
        word = word << 4 | (value - 1);
    }
    *ret_word = word;
    return true;
}

static _Atomic uint64_t *words_of(const struct metrics_layout *layout, struct metrics_slot *slot,
                                  const struct exemplar_place *place)
{
    struct metric_bounds bounds = metric_bounds(layout, &metric_rows[place->metric]);
    size_t index = place->series * (bounds.count + 1) + place->bucket;
    return &slot->cells[layout->exemplar_offset[place->metric] + index * EXEMPLAR_WORDS];
}

void exemplar_keep(struct metrics *metrics, const struct exemplar_place *place, double value,
                   const char *trace_id)
{
    uint64_t high, low, bits;
    if (!trace_id || !read_hex(trace_id, &high) || !read_hex(trace_id + TRACE_ID_LEN / 2, &low) ||
        trace_id[TRACE_ID_LEN] != '\0' || (high | low) == 0)
        return;
    _Atomic uint64_t *words = words_of(&metrics->layout, metrics->own, place);
    uint64_t version = atomic_load_explicit(&words[WORD_VERSION], memory_order_relaxed);
    if ((version & WRITING) ||
        !atomic_compare_exchange_strong_explicit(&words[WORD_VERSION], &version, version | WRITING,
                                                 memory_order_acquire, memory_order_relaxed))
        return;
    memcpy(&bits, &value, sizeof bits);
    atomic_store_explicit(&words[WORD_TRACE_HIGH], high, memory_order_release);
    atomic_store_explicit(&words[WORD_TRACE_LOW], low, memory_order_release);
    atomic_store_explicit(&words[WORD_VALUE], bits, memory_order_release);
    uint64_t time_ms = (uint64_t)clock_wall_ms(metrics->clock);
    uint64_t number = (version + NUMBER_STEP) & NUMBER_MASK;
    atomic_store_explicit(&words[WORD_VERSION], time_ms << NUMBER_BITS | number,
                          memory_order_release);
}

static bool read_once(_Atomic uint64_t *words, struct exemplar *ret_exemplar)
{
    uint64_t version = atomic_load_explicit(&words[WORD_VERSION], memory_order_acquire);
    if (version >> NUMBER_BITS == 0 || (version & WRITING))
        return false;
    struct exemplar exemplar = {
        .trace_high = atomic_load_explicit(&words[WORD_TRACE_HIGH], memory_order_acquire),
        .trace_low = atomic_load_explicit(&words[WORD_TRACE_LOW], memory_order_acquire),
        .time_ms = version >> NUMBER_BITS,
    };
    uint64_t bits = atomic_load_explicit(&words[WORD_VALUE], memory_order_acquire);
    if (atomic_load_explicit(&words[WORD_VERSION], memory_order_relaxed) != version)
        return false;
    memcpy(&exemplar.value, &bits, sizeof bits);
    *ret_exemplar = exemplar;
    return true;
}

bool exemplar_read(const struct metrics_layout *layout, struct metrics_slot *slot,
                   const struct exemplar_place *place, struct exemplar *ret_exemplar)
{
    _Atomic uint64_t *words = words_of(layout, slot, place);
    if (atomic_load_explicit(&words[WORD_VERSION], memory_order_relaxed) == 0)
        return false; /* none was ever kept */
    for (int i = 0; i < READ_TRIES; i++)
        if (read_once(words, ret_exemplar))
            return true;
    return false;
}

void exemplars_clear_unfinished(const struct metrics_layout *layout, struct metrics_slot *slot)
{
    for (size_t at = layout->cells; at < layout->words; at += EXEMPLAR_WORDS)
        if (atomic_load(&slot->cells[at + WORD_VERSION]) & WRITING)
            atomic_store(&slot->cells[at + WORD_VERSION], 0);
}
