# Coffer. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CC = gcc
SANITIZER ?=
CRASH_POINTS ?=
COVERAGE ?=
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60

VERSION := $(shell cat VERSION)

# One build folder per variant, so that no two ever mix.
empty :=
space := $(empty) $(empty)
comma := ,
VARIANT := $(subst $(space),-,$(strip $(if $(filter gcc,$(CC)),,$(notdir $(CC))) \
	$(subst $(comma),-,$(SANITIZER)) $(if $(CRASH_POINTS),crash) $(if $(COVERAGE),coverage)))
BUILD := build/$(or $(VARIANT),release)

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -Wwrite-strings -Wcast-qual -Wformat=2 -Wundef -Wswitch-enum \
	-fno-common -Werror
HARDENING := -fstack-protector-strong -fstack-clash-protection -fcf-protection
ifeq ($(SANITIZER)$(COVERAGE),)
HARDENING += -D_FORTIFY_SOURCE=3
endif
OPTIMIZE := -O2
ifneq ($(COVERAGE),)
OPTIMIZE := -O0 --coverage
endif
CFLAGS_ALL := -std=c17 $(OPTIMIZE) -g -fPIE -pthread -ffunction-sections -fdata-sections \
	$(WARNINGS) $(HARDENING) $(if $(SANITIZER),-fsanitize=$(SANITIZER) -fno-omit-frame-pointer) \
	$(if $(filter undefined,$(subst $(comma),$(space),$(SANITIZER))),-fno-sanitize-recover=undefined) \
	-D_GNU_SOURCE -DCOFFER_VERSION='"$(VERSION)"' $(if $(CRASH_POINTS),-DCOFFER_CRASH_POINTS) \
	-Ishared -Itests/support -include base/banned.h $(CFLAGS)
LDFLAGS_ALL := -pie -pthread -Wl,-z,relro,-z,now,-z,noexecstack,--build-id,--as-needed,--gc-sections \
	$(if $(SANITIZER),-fsanitize=$(SANITIZER)) $(if $(COVERAGE),--coverage) $(LDFLAGS)
LIBS := -lsqlite3 -lcjson -lcrypto -lmagic

LIB := $(BUILD)/libcoffer.a
LIB_SOURCES := $(wildcard shared/*/*.c)
LIB_OBJECTS := $(LIB_SOURCES:%.c=$(BUILD)/%.o)
PROGRAM_SOURCES := $(wildcard fcgi-apps/*.c)
PROGRAMS := $(PROGRAM_SOURCES:fcgi-apps/%.c=$(BUILD)/bin/%)
CLI_SOURCES := $(wildcard cli/*.c)
CLI := $(BUILD)/bin/coffer
UNIT_SOURCES := $(wildcard tests/unit/*.c)
CONTRACT_SOURCES := $(wildcard tests/contract/*.c)
SUPPORT_SOURCES := $(wildcard tests/support/*.c)
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
ALL_SOURCES := $(LIB_SOURCES) $(PROGRAM_SOURCES) $(CLI_SOURCES) $(UNIT_SOURCES) \
	$(CONTRACT_SOURCES) $(SUPPORT_SOURCES) $(wildcard tests/fuzz/*.c) $(wildcard tests/bench/*.c)
DEPENDENCIES := $(ALL_SOURCES:%.c=$(BUILD)/%.d)

.PHONY: build
build: $(PROGRAMS) $(CLI) ## compile the programs and the admin command

$(LIB): $(LIB_OBJECTS)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(PROGRAMS): $(BUILD)/bin/%: $(BUILD)/fcgi-apps/%.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ -lfcgi $(LIBS) -o $@

$(CLI): $(CLI_SOURCES:%.c=$(BUILD)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS) -o $@

$(BUILD)/tests/unit/run: $(UNIT_SOURCES:%.c=$(BUILD)/%.o) $(SUPPORT_SOURCES:%.c=$(BUILD)/%.o) $(LIB)
	$(CC) $(LDFLAGS_ALL) $^ -lfcgi -lcunit $(LIBS) -o $@

$(BUILD)/tests/contract/run: $(CONTRACT_SOURCES:%.c=$(BUILD)/%.o) $(SUPPORT_SOURCES:%.c=$(BUILD)/%.o) $(LIB)
	$(CC) $(LDFLAGS_ALL) $^ -lfcgi -lcunit $(LIBS) -o $@

-include $(DEPENDENCIES)
