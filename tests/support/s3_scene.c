#include "s3_scene.h"

static bool holds(const struct http_peer *peer, const char *text)
{
    const struct buf *body = &peer->body;
    return http_peer_saw(peer, text) ||
           (body->len > 0 && memmem(body->data, body->len, text, strlen(text)));
}

static void play(struct http_peer *peer)
{
    struct script *script = peer->context;
    while (http_peer_read(peer)) {
        int at = script->at++;
        const struct scripted *step = &script->steps[at < ANSWERS_MAX ? at : ANSWERS_MAX - 1];
        bool expected = step->request && http_peer_saw(peer, step->request) &&
                        (!step->without || !holds(peer, step->without));
        if (!expected) {
            fprintf(stderr, "unexpected request %d: %s\n", at, buf_text(&peer->head));
            script->unexpected++;
        }
        if (!expected || !*step->answer)
            return;
        http_peer_write_text(peer, step->answer);
        if (strstr(step->answer, "Connection: close"))
            return;
    }
}

void scene_open(struct scene *scene, const struct scripted *steps, unsigned attempts)
{
    struct err err;
    char url[HTTP_URL_SIZE];
    memset(scene, 0, sizeof *scene);
    for (size_t i = 0; i < ANSWERS_MAX && steps[i].request; i++)
        scene->script.steps[i] = steps[i];
    scene->server = http_server_open(play, &scene->script);
    struct config *config = &scene->config;
    store_config(config, check_temp_dir());
    snprintf(config->s3_endpoint, CONFIG_TEXT_SIZE, "%s", http_server_url(scene->server, "", url));
    snprintf(config->s3_region, CONFIG_TEXT_SIZE, "us-east-1");
    snprintf(config->s3_bucket, CONFIG_TEXT_SIZE, "files");
    snprintf(config->s3_access_key, CONFIG_TEXT_SIZE, "access");
    snprintf(config->s3_secret_key, CONFIG_TEXT_SIZE, "secret");
    config->s3_part_size = 5 * MIB;
    config->s3_attempts = attempts;
    config->s3_connect_timeout_ms = 1500;
    config->s3_stall_seconds = 10;
    config->s3_deadline_seconds = 20;
    config->upload_memory = 64 * MIB;
    CHECK_ERR(storage_open_driver(&scene->storage, &storage_s3_driver, config, &clock_system, &err),
              ERR_OK, &err);
}

void scene_close(struct scene *scene, const struct scripted *steps, const char *label)
{
    int count = 0;
    while (count < ANSWERS_MAX && steps[count].request)
        count++;
    storage_close(scene->storage);
    http_server_close(scene->server);
    CHECK_INT_ROW(label, scene->script.at, count);
    CHECK_INT_ROW(label, scene->script.unexpected, 0);
}

enum err_code scene_put(struct storage *storage, const char *data, size_t len, struct err *err)
{
    static const unsigned char sha256[32] = {1};
    struct storage_put *handle = NULL;
    char tag[STORAGE_TAG_SIZE];
    enum err_code code = storage_put_begin(storage, KEY, (int64_t)len, &handle, err);
    if (code == ERR_OK)
        code = storage_put_write(handle, data, len, err);
    if (code == ERR_OK)
        code = storage_put_commit(handle, sha256, tag, err);
    if (code == ERR_OK)
        CHECK_TEXT(tag, "\"e\"");
    storage_put_close(handle);
    return code;
}
