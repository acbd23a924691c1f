#include "observe/report_parts.h"

#define WINDOW_NS (60 * 1000000000LL)

static void hash_text(uint64_t *hash, const char *text) /* FNV-1a */
{
    for (const char *at = text ? text : "";; at++) {
        *hash = (*hash ^ (unsigned char)*at) * 0x100000001b3U;
        if (!*at)
            return;
    }
}

uint64_t report_fingerprint_hash(const char *program, const struct report_event *event)
{
    uint64_t hash = 0xcbf29ce484222325U;
    hash_text(&hash, program);
    hash_text(&hash, event->type);
    hash_text(&hash, event->operation);
    hash_text(&hash, event->route);
    return hash ? hash : 1;
}

/* The fingerprint's slot, else a free one, else the one that began its minute first. */
static struct report_storm_slot *find_slot(struct report_storm *storm, uint64_t hash)
{
    struct report_storm_slot *found = &storm->slots[0];
    for (size_t i = 0; i < REPORT_STORM_SLOTS; i++) {
        struct report_storm_slot *slot = &storm->slots[i];
        if (slot->hash == hash)
            return slot;
        if (found->hash != 0 && (slot->hash == 0 || slot->since_ns < found->since_ns))
            found = slot;
    }
    *found = (struct report_storm_slot){.hash = hash};
    return found;
}

bool report_storm_admit(struct report_storm *storm, uint64_t hash, int64_t now_ns,
                        int64_t *ret_suppressed)
{
    pthread_mutex_lock(&storm->mutex);
    struct report_storm_slot *slot = find_slot(storm, hash);
    if (slot->count == 0 || now_ns - slot->since_ns >= WINDOW_NS) {
        slot->since_ns = now_ns;
        slot->count = 0;
    }
    bool is_admitted = slot->count < REPORT_SAME_MAX;
    if (is_admitted) {
        *ret_suppressed = slot->suppressed;
        slot->suppressed = 0;
        slot->count++;
    } else {
        slot->suppressed++;
    }
    pthread_mutex_unlock(&storm->mutex);
    return is_admitted;
}
