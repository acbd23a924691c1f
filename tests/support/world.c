#include "world.h"

#include "check.h"
#include "files/files_create.h"
#include "files/files_installation.h"
#include "files/files_open.h"
#include "storage/storage_drivers.h"

static bool open_with(struct world *world, const struct storage_driver *driver)
{
    struct err err = {0};
    *world = (struct world){
        .config = {.storage_driver = "fs",
                   .metadata_driver = "sqlite",
                   .durability = DURABILITY_RELAXED,
                   .max_file_size = 1 << 20,
                   .idempotency_keys = 10000,
                   .idempotency_bytes = 16 << 20,
                   .s3_bucket = "uploads",
                   .s3_deadline_seconds = 20,
                   .sqlite_busy_timeout_ms = 5000,
                   .sqlite_readers = 2,
                   .sweep_interval_seconds = 300},
        .alice = {"alice", SCOPE_READ | SCOPE_WRITE, false},
    };
    snprintf(world->config.data_dir, sizeof world->config.data_dir, "%s/data", check_temp_dir());
    world->files = (struct files){.config = &world->config, .clock = &clock_system};
    bool opened = storage_init(&world->config, &clock_system, &err) == ERR_OK &&
                  metadata_init(&world->config, &clock_system, &err) == ERR_OK &&
                  storage_open_driver(&world->files.storage, driver, &world->config, &clock_system,
                                      &err) == ERR_OK &&
                  metadata_open(&world->files.metadata, &world->config, &clock_system, NULL,
                                &err) == ERR_OK &&
                  files_installation_settle(&world->files, &err) == ERR_OK;
    idempotency_init(&world->idempotency, world->files.metadata, &clock_system);
    return opened;
}

bool open_world(struct world *world)
{
    return open_with(world, &storage_fs_driver);
}

bool open_remote_world(struct world *world)
{
    static struct storage_driver remote;
    remote = storage_fs_driver;
    remote.capabilities = STORAGE_WAITS | STORAGE_MAY_LAG;
    return open_with(world, &remote);
}

void close_world(struct world *world)
{
    metadata_close(world->files.metadata);
    storage_close(world->files.storage);
}

struct text_source {
    struct source source;
    struct str text;
};

static enum err_code next_text(struct source *source, struct str *ret_piece, struct err *err)
{
    struct text_source *text = (struct text_source *)source;
    (void)err;
    *ret_piece = text->text;
    text->text.len = 0;
    return ERR_OK;
}

enum err_code upload(struct world *world, const char *name, struct str content, int64_t expires_in,
                     char ret_id[ID_SIZE], struct err *err)
{
    struct create_request request;
    struct create_answer answer;
    struct text_source body = {{next_text}, content};
    create_request_init(&request);
    create_answer_init(&answer);
    request.method = "PUT";
    request.route = "/test";
    request.principal = &world->alice;
    request.idempotency = &world->idempotency;
    request.expires_in = expires_in;
    CHECK(str_copy(request.name, sizeof request.name, str_of(name)));
    enum err_code code = files_create(&world->files, &request, &body.source, &answer, err);
    if (code == ERR_OK)
        memcpy(ret_id, answer.body.data + strlen("{\"id\":\""), ID_LENGTH);
    ret_id[ID_LENGTH] = '\0';
    create_answer_release(&answer);
    create_request_release(&request);
    return code;
}

enum err_code open_file(struct world *world, const char *id, struct file *file, struct err *err)
{
    return files_open(&world->files, &world->alice, str_of(id), file, err);
}
