# Coffer. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CC = gcc
SANITIZER ?=
CRASH_POINTS ?=
COVERAGE ?=
ANALYZE ?=
FUZZER ?=
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
E2E_WORKERS ?= 3

VERSION := $(shell cat VERSION)

# One build folder per variant, so that no two ever mix.
empty :=
space := $(empty) $(empty)
comma := ,
VARIANT := $(subst $(space),-,$(strip $(if $(filter gcc,$(CC)),,$(notdir $(CC))) \
	$(subst $(comma),-,$(SANITIZER)) $(if $(CRASH_POINTS),crash) $(if $(COVERAGE),coverage) $(if $(ANALYZE),analyze) \
	$(if $(FUZZER),fuzzer)))
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
# For reports of errors and crashes: whoever calls stays on the stack, sources have names relative to
# the tree.
STACKS := -fno-optimize-sibling-calls -fdebug-prefix-map=$(CURDIR)=.
# What sanitizers add to the library would not link into the MongoDB driver without -fPIC.
CFLAGS_ALL := -std=c17 $(OPTIMIZE) -g $(if $(SANITIZER),-fPIC,-fPIE) -pthread \
	-ffunction-sections -fdata-sections $(STACKS) \
	$(WARNINGS) $(HARDENING) $(if $(SANITIZER),-fsanitize=$(SANITIZER) -fno-omit-frame-pointer) \
	$(if $(filter undefined,$(subst $(comma),$(space),$(SANITIZER))),-fno-sanitize-recover=undefined) \
	$(if $(ANALYZE),-fanalyzer -D__clang_analyzer__ -Wno-unused-value \
	-Wno-sign-conversion -Wno-analyzer-malloc-leak) $(if $(FUZZER),-fsanitize=fuzzer-no-link) \
	-D_GNU_SOURCE -DCOFFER_VERSION='"$(VERSION)"' $(if $(CRASH_POINTS),-DCOFFER_CRASH_POINTS) \
	-Ishared -Ifcgi-apps -Itests/support -include base/banned.h $(CFLAGS)
LDFLAGS_ALL := -pie -pthread -Wl,-z,relro,-z,now,-z,noexecstack,--build-id,--as-needed,--gc-sections \
	$(if $(SANITIZER),-fsanitize=$(SANITIZER)) $(if $(COVERAGE),--coverage) $(LDFLAGS)
LIBS := -lsqlite3 -lcjson -lcrypto -lmagic -lcurl -lbacktrace -lseccomp
# libbacktrace comes with gcc; other compilers don't look for its header there.
BACKTRACE_INCLUDE := -idirafter $(dir $(shell gcc -print-libgcc-file-name))include

LIB := $(BUILD)/libcoffer.a
# libmongoc is large: its driver is an object of its own, loaded where METADATA_DRIVER=mongodb.
MONGODB_SOURCES := $(wildcard shared/metadata/mongodb/*.c)
MONGODB_OBJECTS := $(MONGODB_SOURCES:%.c=$(BUILD)/%.o)
MONGODB_LIBS := -lmongoc-1.0 -lbson-1.0
MONGODB_PLUGIN := $(BUILD)/bin/coffer-mongodb.so
# Preloaded into lighttpd, which knows no sanitizers.
GATE := $(BUILD)/bin/coffer-gate.so
GATE_SOURCES := lighttpd/gate.c shared/base/address.c shared/base/str.c shared/base/text.c
LIB_SOURCES := $(filter-out $(MONGODB_SOURCES),$(wildcard shared/*/*.c shared/*/*/*.c))
LIB_OBJECTS := $(LIB_SOURCES:%.c=$(BUILD)/%.o)
# A program is a file NAME.c, or a folder NAME with main in NAME.c; its other files are linked into the tests, too.
PROGRAM_SOURCES := $(wildcard fcgi-apps/*.c fcgi-apps/*/*.c)
PROGRAM_NAMES := $(patsubst fcgi-apps/%.c,%,$(wildcard fcgi-apps/*.c)) \
	$(patsubst fcgi-apps/%/,%,$(sort $(dir $(wildcard fcgi-apps/*/*.c))))
PROGRAM_PARTS := $(filter-out $(foreach name,$(PROGRAM_NAMES),fcgi-apps/$(name)/$(name).c),$(wildcard fcgi-apps/*/*.c))
PROGRAM_LIB := $(BUILD)/libprograms.a
PROGRAMS := $(PROGRAM_NAMES:%=$(BUILD)/bin/%)
CLI_SOURCES := $(wildcard cli/*.c)
CLI := $(BUILD)/bin/coffer
UNIT_SOURCES := $(wildcard tests/unit/*.c)
CONTRACT_SOURCES := $(wildcard tests/contract/*.c)
SUPPORT_SOURCES := $(wildcard tests/support/*.c)
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
TOOL_SOURCES := $(wildcard tests/tools/*.c)
TOOLS := $(TOOL_SOURCES:tests/tools/%.c=$(BUILD)/tests/tools/%)
ALL_SOURCES := $(LIB_SOURCES) $(MONGODB_SOURCES) $(PROGRAM_SOURCES) $(CLI_SOURCES) $(UNIT_SOURCES) \
	$(CONTRACT_SOURCES) $(SUPPORT_SOURCES) $(TOOL_SOURCES) $(wildcard tests/fuzz/*.c) $(wildcard tests/bench/*.c)
DEPENDENCIES := $(ALL_SOURCES:%.c=$(BUILD)/%.d)

.PHONY: build
build: $(PROGRAMS) $(CLI) $(MONGODB_PLUGIN) $(GATE) ## compile the programs and the admin command

$(LIB): $(LIB_OBJECTS)
	@rm -f $@
	ar rcs $@ $^

$(PROGRAM_LIB): $(PROGRAM_PARTS:%.c=$(BUILD)/%.o)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(foreach name,$(PROGRAM_NAMES),$(eval $(BUILD)/bin/$(name): \
	$(patsubst %.c,$(BUILD)/%.o,$(wildcard fcgi-apps/$(name).c fcgi-apps/$(name)/*.c))))
$(PROGRAMS): $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $(filter %.o,$^) $(LIB) -lfcgi $(LIBS) -o $@

$(MONGODB_OBJECTS) $(patsubst %.c,$(BUILD)/%.o,$(UNIT_SOURCES) $(CONTRACT_SOURCES) $(SUPPORT_SOURCES)): \
	CFLAGS_ALL += -isystem /usr/include/libmongoc-1.0 -isystem /usr/include/libbson-1.0

$(BUILD)/shared/observe/stack_names.o: CFLAGS_ALL += $(BACKTRACE_INCLUDE)

$(MONGODB_PLUGIN): $(MONGODB_OBJECTS) $(LIB)
	@mkdir -p $(@D)
	$(CC) -shared $(filter-out -pie,$(LDFLAGS_ALL)) -Wl,-Bsymbolic,--exclude-libs,ALL $^ \
		$(MONGODB_LIBS) $(LIBS) -o $@

# ISO C has no word for the parameter of accept4 that glibc declares.
$(GATE): $(GATE_SOURCES) shared/base/address.h shared/base/str.h shared/base/text.h
	@mkdir -p $(@D)
	$(CC) -shared -std=c17 -O2 -g -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections \
		$(WARNINGS) -Wno-pedantic -fstack-protector-strong -fstack-clash-protection -fcf-protection \
		-D_GNU_SOURCE -Ishared -include base/banned.h \
		-Wl,-z,relro,-z,now,-z,noexecstack,--build-id,--gc-sections $(GATE_SOURCES) -o $@

$(CLI): $(CLI_SOURCES:%.c=$(BUILD)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS) -o $@

$(BUILD)/tests/unit/run: $(UNIT_SOURCES:%.c=$(BUILD)/%.o) $(SUPPORT_SOURCES:%.c=$(BUILD)/%.o) $(MONGODB_OBJECTS) $(PROGRAM_LIB) $(LIB)
	$(CC) $(LDFLAGS_ALL) $^ -lfcgi -lcunit $(MONGODB_LIBS) $(LIBS) -o $@

$(BUILD)/tests/contract/run: $(CONTRACT_SOURCES:%.c=$(BUILD)/%.o) $(SUPPORT_SOURCES:%.c=$(BUILD)/%.o) $(MONGODB_OBJECTS) $(PROGRAM_LIB) $(LIB)
	$(CC) $(LDFLAGS_ALL) $^ -lfcgi -lcunit $(MONGODB_LIBS) $(LIBS) -o $@

$(TOOLS): $(BUILD)/tests/tools/%: $(BUILD)/tests/tools/%.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS) -o $@

FUZZERS := $(FUZZ_SOURCES:tests/fuzz/%.c=%)

# With FUZZER=1 CC=clang a libFuzzer program, else one that replays files (tests/fuzz/replay.c).
$(FUZZERS:%=$(BUILD)/tests/fuzz/run/%): $(BUILD)/tests/fuzz/run/%: $(BUILD)/tests/fuzz/%.o \
		$(if $(FUZZER),,$(BUILD)/tests/fuzz/replay.o) $(PROGRAM_LIB) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $(if $(FUZZER),-fsanitize=fuzzer) $^ $(LIBS) -o $@

.PHONY: fuzzers tools objects
tools: $(TOOLS)
fuzzers: $(FUZZERS:%=$(BUILD)/tests/fuzz/run/%)
objects: $(LIB_OBJECTS) $(MONGODB_OBJECTS) $(PROGRAM_SOURCES:%.c=$(BUILD)/%.o) $(CLI_SOURCES:%.c=$(BUILD)/%.o)

# ---- running ----

JOBS := $(shell nproc)
ASAN := SANITIZER=address,undefined CRASH_POINTS=1
TSAN := SANITIZER=thread
ASAN_BUILD := build/address-undefined-crash
TSAN_BUILD := build/thread
export ASAN_OPTIONS ?= detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS ?= print_stacktrace=1
export TSAN_OPTIONS ?= halt_on_error=1:suppressions=$(CURDIR)/tests/support/tsan.supp

.PHONY: run run-s3 start stop
NODES ?=
run: ## install what is missing, build, serve on 127.0.0.1:5921 until Ctrl-C; NODES=3: a gateway and nodes
	@infrastructure/scripts/install-deps.sh run
	@infrastructure/scripts/make-user
	@$(MAKE) --no-print-directory -s -j$(JOBS) build
	@exec lighttpd/coffer-serve $(if $(NODES),nodes $(NODES)) foreground

run-s3: ## the same over a SeaweedFS and a FerretDB started for it, for a try
	@infrastructure/scripts/install-deps.sh run servers
	@tests/servers/install seaweedfs ferretdb
	@infrastructure/scripts/make-user
	@$(MAKE) --no-print-directory -s -j$(JOBS) build
	@exec infrastructure/scripts/with-stores lighttpd/coffer-serve foreground

start: ## the same in the background
	@infrastructure/scripts/install-deps.sh run
	@infrastructure/scripts/make-user
	@$(MAKE) --no-print-directory -s -j$(JOBS) build
	@lighttpd/coffer-serve start

stop: ## end what start began, after requests in flight
	@lighttpd/coffer-serve stop

.PHONY: deps deps-test deps-bench
deps: ## install what building and running needs (apt, as root or by sudo)
	@infrastructure/scripts/install-deps.sh run

deps-test: ## install what the tests need
	@infrastructure/scripts/install-deps.sh run test
	@tests/servers/install seaweedfs minio ferretdb bugsink elasticsearch otelcol

deps-bench: ## install what the benchmark needs
	@infrastructure/scripts/install-deps.sh run bench servers
	@tests/servers/install seaweedfs minio ferretdb

# ---- testing ----

# docs/TESTING.md says what is where and why.
.PHONY: test test-all unit unit-tsan contract fuzz fuzz-replay e2e soak flaky mutants coverage bench
test: deps-test ## all that a change must pass: lint, unit, contract, corpora, end to end on two pairs of stores
	@MAKE='$(MAKE)' tests/support/run-stages.py lint infra unit contract fuzz-replay e2e e2e-s3

test-all: deps-test ## the same, other stores and nodes, TSan, the builds that ship, coverage, a soak of 5 minutes
	@MAKE='$(MAKE)' TEST_ALL=1 tests/support/run-stages.py lint infra unit contract fuzz-replay e2e e2e-s3 \
		e2e-minio e2e-libs3 e2e-nodes unit-tsan unit-release lint-deep coverage infra-live e2e-containers soak

# Real servers around a command (tests/servers/serve).
SERVE_UNIT := tests/servers/serve ferretdb --
SERVE_CONTRACT := tests/servers/serve seaweedfs minio ferretdb --
# Shards of a test program, side by side: most of its tests wait more than they work.
shards = $(foreach number,1 2 3,'env CHECK_SHARD=$(number)/3 $(1)')

# T= runs these suites alone; of them only MongoDB's need a server.
unit: ## CUnit tests of each unit under ASan+UBSan; T="disposition range" for these suites
	@command -v gcc >/dev/null && test -e /usr/include/CUnit/CUnit.h || { \
		echo 'a compiler or CUnit is missing: run `make deps-test`' >&2; exit 1; }
	@$(MAKE) -s -j$(JOBS) $(ASAN) $(ASAN_BUILD)/tests/unit/run
ifdef T
	@$(if $(findstring mongodb,$(T)),$(SERVE_UNIT)) $(ASAN_BUILD)/tests/unit/run $(T)
else
	@$(SERVE_UNIT) tests/support/side-by-side.sh $(call shards,$(ASAN_BUILD)/tests/unit/run)
endif

.PHONY: unit-release
unit-release: ## the same as shipped
	@$(MAKE) -s -j$(JOBS) build/release/tests/unit/run
	@$(SERVE_UNIT) tests/support/side-by-side.sh $(call shards,build/release/tests/unit/run)

unit-tsan: ## the same under TSan
	@$(MAKE) -s -j$(JOBS) $(TSAN) $(TSAN_BUILD)/tests/unit/run
	@$(SERVE_UNIT) tests/support/side-by-side.sh $(call shards,$(TSAN_BUILD)/tests/unit/run)

contract: ## one suite over every storage driver, one over every metadata driver; T= for one of them
	@$(MAKE) -s -j$(JOBS) $(ASAN) $(ASAN_BUILD)/tests/contract/run
	@$(SERVE_CONTRACT) $(if $(T),$(ASAN_BUILD)/tests/contract/run $(T), \
		tests/support/side-by-side.sh $(call shards,$(ASAN_BUILD)/tests/contract/run))

fuzz: ## search with libFuzzer, FUZZ_SECONDS for each fuzzer; findings go to build/fuzz
	@$(MAKE) -s -j$(JOBS) CC=clang FUZZER=1 SANITIZER=address,undefined fuzzers
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/support/fuzz.sh build/clang-address-undefined-fuzzer \
		$(FUZZERS)

fuzz-replay: ## the fuzzers' corpora once, under ASan+UBSan
	@$(MAKE) -s -j$(JOBS) $(ASAN) fuzzers
	@for name in $(FUZZERS); do \
		$(ASAN_BUILD)/tests/fuzz/run/$$name tests/fuzz/corpus/$${name#fuzz_}; \
	done

VENV := .cache/venv
$(VENV)/installed: tests/e2e/requirements.txt
	@mkdir -p $(@D)
	python3 -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

PYTEST := $(VENV)/bin/python -B -m pytest -c tests/e2e/pytest.ini -p no:cacheprovider
BACKEND ?= fs+sqlite
# T is a test's name, or what pytest takes: a file, file::test, more options.
E2E_FILES = $(or $(shell grep -lE 'def $(firstword $(T))\b' tests/e2e/test_*.py) $(addprefix -k ,$(firstword $(T))),$(T))
e2e: $(VENV)/installed ## black box through lighttpd; BACKEND=s3+mongodb; T=test_name or T="tests/e2e/test_x.py -k y"
	@$(MAKE) -s -j$(JOBS) build
	@$(MAKE) -s -j$(JOBS) CRASH_POINTS=1 build
	@$(MAKE) -s -j$(JOBS) tools
	COFFER_TEST_BACKEND='$(BACKEND)' $(PYTEST) \
		$(if $(T),$(E2E_FILES),-n $(E2E_WORKERS) --dist loadfile --no-loadscope-reorder tests/e2e) \
		$(if $(TEST_REPORT),--junitxml='$(TEST_REPORT)')

# What touches a store on SeaweedFS and FerretDB; the core on other stores, and behind a gateway.
.PHONY: e2e-s3 e2e-minio e2e-libs3 e2e-nodes
e2e-s3: BACKEND = s3+mongodb
e2e-minio: BACKEND = minio+mongodb
e2e-libs3: BACKEND = libs3+sqlite
e2e-nodes: BACKEND = nodes
e2e-s3 e2e-minio e2e-libs3 e2e-nodes:
	@$(MAKE) --no-print-directory e2e BACKEND='$(BACKEND)'

SOAK_SECONDS ?= 300
soak: $(VENV)/installed ## a mixed load with faults for SOAK_SECONDS: nothing lost, memory and descriptors bounded
	@$(MAKE) -s -j$(JOBS) build
	SOAK_SECONDS=$(SOAK_SECONDS) $(PYTEST) -o python_files='soak_*.py' tests/e2e/soak_mixed_load.py

flaky: $(VENV)/installed ## the tests that a run called FLAKY, or T="BACKEND node-id", 50 times each under load
	@$(MAKE) -s -j$(JOBS) build
	@$(MAKE) -s -j$(JOBS) CRASH_POINTS=1 build
	@tests/support/flaky.sh $(T)

mutants: deps-test ## plant known faults in a copy, one at a time, and see that the tests find them; T= for some
	@tests/tools/mutants.py $(T)

coverage: ## line coverage of shared/ by unit and contract tests and corpora; at least 85 %
	@$(MAKE) -s -j$(JOBS) COVERAGE=1 CRASH_POINTS=1 build/crash-coverage/tests/unit/run \
		build/crash-coverage/tests/contract/run fuzzers
	@$(SERVE_CONTRACT) tests/support/coverage.sh build/crash-coverage 85 $(FUZZERS)

bench: deps-bench ## speed and memory beside lighttpd alone, a bare loop, and Express
	@$(MAKE) -s -j$(JOBS) build
	tests/bench/run

# ---- keeping it in order ----

C_FILES := $(wildcard lighttpd/*.c shared/*/*.[ch] shared/*/*/*.[ch] fcgi-apps/*.[ch] fcgi-apps/*/*.[ch] cli/*.[ch] \
	tests/*/*.[ch])
TIDY_SOURCES := $(LIB_SOURCES) $(MONGODB_SOURCES) $(PROGRAM_SOURCES) $(CLI_SOURCES)
# clang's warnings come with clang-tidy (clang-diagnostic-*), so clang compiles nothing.
TIDY_FLAGS := -std=c17 $(WARNINGS) -D_GNU_SOURCE -DCOFFER_VERSION='"$(VERSION)"' -Ishared -Ifcgi-apps \
	-Itests/support -include base/banned.h -isystem /usr/include/libmongoc-1.0 -isystem /usr/include/libbson-1.0

# How far clang's analyzer follows calls: deep takes eight times as long.
TIDY_MODE ?= shallow
TIDY := build/tidy-$(TIDY_MODE)
$(TIDY)/shared/observe/stack_names.stamp: TIDY_FLAGS += $(BACKTRACE_INCLUDE)

.PHONY: lint format tidy settings
lint: ## layout, static analysis, layers, sizes, shell scripts, generated documentation
	clang-format --dry-run -Werror $(C_FILES)
	tests/support/check-layers.sh
	tests/support/check-text.sh
	tests/support/check-shell.sh
	@$(MAKE) -s -j$(JOBS) build
	tests/support/settings.sh check build/release/bin/coffer
	@$(MAKE) -s -j$(JOBS) ANALYZE=1 objects
	@$(MAKE) -s -j$(JOBS) tidy

TIDY_STAMPS := $(TIDY_SOURCES:%.c=$(TIDY)/%.stamp)
tidy: $(TIDY_STAMPS)

.PHONY: lint-deep
lint-deep: ## clang's analyzer through all calls
	@$(MAKE) -s -j$(JOBS) TIDY_MODE=deep tidy

# A file is looked at again when its object was compiled again: that knows the headers it includes.
$(TIDY_STAMPS): $(TIDY)/%.stamp: %.c build/release/%.o .clang-tidy $(wildcard shared/*/.clang-tidy)
	@mkdir -p $(@D)
	clang-tidy --quiet --warnings-as-errors='*' --extra-arg=-Xclang --extra-arg=-analyzer-config \
		--extra-arg=-Xclang --extra-arg=mode=$(TIDY_MODE) $< -- $(TIDY_FLAGS) 2>$(TIDY)/log.$$$$ \
		|| { cat $(TIDY)/log.$$$$; exit 1; }; rm -f $(TIDY)/log.$$$$
	@touch $@

format: ## lay out all C files as .clang-format says
	clang-format -i $(C_FILES)

settings: build ## write .env.example and the settings table of docs/OPERATIONS.md
	@tests/support/settings.sh write build/release/bin/coffer

# Not installed: what needs the source tree.
INFRASTRUCTURE = $(shell find infrastructure -type f -not -path 'infrastructure/scripts/*' -not -name '*.pyc')
DOCUMENTS := README.md CHANGES.md CONTRIBUTING.md infrastructure/README.md $(wildcard docs/*.md docs/decisions/*.md)

.PHONY: hooks
hooks: ## check what is staged before each commit of this clone
	git config core.hooksPath tests/support/hooks

.PHONY: install clean help
install: build ## install to PREFIX (/usr/local) below DESTDIR; without DESTDIR make the user coffer
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/libexec/coffer' \
		'$(DESTDIR)$(PREFIX)/share/coffer/lighttpd/errors' '$(DESTDIR)$(PREFIX)/share/doc/coffer'
	install -m 755 $(CLI) lighttpd/coffer-serve '$(DESTDIR)$(PREFIX)/bin'
	install -m 755 $(PROGRAMS) $(MONGODB_PLUGIN) $(GATE) '$(DESTDIR)$(PREFIX)/libexec/coffer'
	install -m 644 lighttpd/*.conf lighttpd/*.bash lighttpd/*.sh '$(DESTDIR)$(PREFIX)/share/coffer/lighttpd'
	install -m 644 lighttpd/errors/*.html '$(DESTDIR)$(PREFIX)/share/coffer/lighttpd/errors'
	@for file in $(INFRASTRUCTURE); do \
		mode=644; [ ! -x "$$file" ] || mode=755; \
		install -D -m "$$mode" "$$file" '$(DESTDIR)$(PREFIX)/share/coffer/'"$$file"; \
	done
	@for file in $(DOCUMENTS); do \
		install -D -m 644 "$$file" '$(DESTDIR)$(PREFIX)/share/doc/coffer/'"$$file"; \
	done
	install -m 644 .env.example '$(DESTDIR)$(PREFIX)/share/doc/coffer/env.example'
	$(if $(DESTDIR),,infrastructure/scripts/make-user)
	install -m 644 LICENSE docs/licenses/*.txt '$(DESTDIR)$(PREFIX)/share/doc/coffer'

include infrastructure.mk

clean: ## remove everything built
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile infrastructure.mk

-include $(DEPENDENCIES)
