# Verbs only; what they do lives in pyproject.toml, csrc/ and tests/.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
BUILT  := $(VENV)/.built

CSRC   := $(wildcard csrc/*.c)
CTESTS := $(patsubst csrc/tests/%.c,%,$(wildcard csrc/tests/test_*.c))
STRICT := -std=c11 -D_GNU_SOURCE -g -Wall -Wextra -Wconversion -Werror
CBUILD := csrc/build
FUZZ_SECONDS ?= 30

.PHONY: help run test check lint types cwarn docs peers scanner bench ctest asan tsan valgrind run-ctests fuzz format clean

help:
	@echo "make run           set up everything and show it at work (CONFIG=file serves that file)"
	@echo "make test          all tests, Python and C"
	@echo "make check         lint, types, strict C warnings"
	@echo "make docs          docs/configuration.md from the model"
	@echo "make bench         figures beside every peer that is installed (QUICK=1 in three minutes)"
	@echo "make ctest asan tsan valgrind fuzz   the C tests, under each tool"
	@echo "make clean         remove what was built"

run: $(BUILT)
ifdef CONFIG
	$(BIN)/tls-gateway serve --config $(CONFIG)
else
	$(BIN)/tls-gateway demo $(DEMO)
endif

test: $(READY) ctest
	$(BIN)/python -m pytest --numprocesses auto $(PYTEST)

check: lint types cwarn

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

cwarn:
	@mkdir -p $(CBUILD)
	@for file in $(CSRC); do $(CC) $(STRICT) -O2 -c $$file -o $(CBUILD)/warn.o || exit 1; done
	@echo "strict warnings: none in $(words $(CSRC)) files"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(BUILT)
	$(BIN)/python -m gateway.config.reference docs/configuration.md

# Envoy, which is large, and what draws the charts; the other peers are Debian's packages (bench/README.md).
peers: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'

# sslyze, which scans a gateway in the tests: in an environment of its own, since it wants an older cryptography.
scanner: .scanner/bin/sslyze

.scanner/bin/sslyze:
	$(PYTHON) -m venv .scanner
	.scanner/bin/python -m pip install --quiet 'sslyze==6.3.1'

bench: peers
	$(BIN)/python -m bench $(if $(QUICK),--quick)

# The extension is rebuilt when its sources change; the package itself is editable.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(BUILT): $(VENV)/bin/python pyproject.toml setup.py $(CSRC) $(wildcard csrc/*.h) csrc/build_ffi.py
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(READY): $(BUILT)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The C tests link the system's OpenSSL (libssl-dev); the extension itself links none.
# KIND names a build of them: each has its own objects.
KIND    ?= plain
KINDDIR := $(CBUILD)/$(KIND)
ASAN    := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

ctest:
	@if echo '#include <openssl/ssl.h>' | $(CC) -E - >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory run-ctests KIND=plain; \
	else \
	  echo "C tests skipped: they link the system's OpenSSL (apt-get install libssl-dev)"; test "$$CI" != true; \
	fi

asan:
	@$(MAKE) --no-print-directory run-ctests KIND=asan FLAGS="$(ASAN)"

tsan:
	@$(MAKE) --no-print-directory run-ctests KIND=tsan FLAGS="-fsanitize=thread"

valgrind:
	@$(MAKE) --no-print-directory run-ctests KIND=plain \
	  UNDER="valgrind --quiet --fair-sched=yes --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite"

.SECONDARY:

run-ctests: $(addprefix $(KINDDIR)/,$(CTESTS))
	@for test in $(CTESTS); do echo "== $$test ($(KIND)$(if $(UNDER),$(comma) $(firstword $(UNDER))))"; $(UNDER) $(KINDDIR)/$$test || exit 1; done

$(KINDDIR)/test_%: csrc/tests/test_%.c $(patsubst csrc/%.c,$(KINDDIR)/%.o,$(CSRC)) $(KINDDIR)/system_openssl.o $(wildcard csrc/tests/*.h)
	$(CC) $(STRICT) -O1 $(FLAGS) -Icsrc -Icsrc/tests $(filter %.c %.o,$^) -o $@ -pthread -lssl -lcrypto

$(KINDDIR)/system_openssl.o: csrc/tests/system_openssl.c $(wildcard csrc/*.h)
	@mkdir -p $(@D)
	$(CC) $(STRICT) -O1 $(FLAGS) -Icsrc -c $< -o $@

$(KINDDIR)/%.o: csrc/%.c $(wildcard csrc/*.h)
	@mkdir -p $(@D)
	$(CC) $(STRICT) -O1 $(FLAGS) -c $< -o $@

fuzz:
	@mkdir -p $(CBUILD)
	@for target in crl table certificate sni; do \
	  mkdir -p $(CBUILD)/corpus-$$target; \
	  clang -std=c11 -D_GNU_SOURCE -g -O1 -Icsrc -Icsrc/tests -fsanitize=fuzzer,address,undefined \
	    csrc/fuzz/fuzz_$$target.c csrc/certificate.c csrc/crl_walk.c csrc/table_compile.c csrc/revoked.c \
	    csrc/sni.c csrc/openssl_table.c -o $(CBUILD)/fuzz_$$target || exit 1; \
	  $(CBUILD)/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
	    $(CBUILD)/corpus-$$target csrc/fuzz/corpus/$$target || exit 1; \
	done

clean:
	rm -rf $(VENV) .scanner $(CBUILD) build *.egg-info gateway/_native*.so bench/results .mypy_cache .ruff_cache .pytest_cache .hypothesis

comma := ,
