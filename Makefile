# assay: one Makefile. `make help` lists the targets.
#
#   V=1      show the commands          DEBUG=1  -O0 -g
#   CUDA=0   without nvcc (nocuda/)     ASAN=1   AddressSanitizer + UndefinedBehaviorSanitizer
#   ARCH=    nvcc -gencode options      BUILD=   build folder (default build)
#   CC=      another compiler, a cross one too (then PKG_CONFIG= its pkg-config, and CUDA=0)

.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/bash
, := ,
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = @printf '  %-7s %s\n' '$(1)' '$(2)'

# ---- probes ----------------------------------------------------------------------------------------

NVCC ?= $(shell command -v nvcc 2>/dev/null || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
CUDA ?= $(if $(NVCC),1,0)
MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null)) $(shell uname -m))
have = $(shell printf '\#include <%s>\n' '$(1)' | $(CC) $(2) -E - >/dev/null 2>&1 && echo 1)
PKG_CONFIG ?= pkg-config
pc = $(shell $(PKG_CONFIG) $(1) $(2) 2>/dev/null)
# An archive where the compiler looks for it, or nothing.
archive = $(filter /%,$(shell $(CC) -print-file-name=$(1) 2>/dev/null))

HDF5_PC := $(firstword $(foreach p,hdf5-serial hdf5,$(if $(shell $(PKG_CONFIG) --exists $(p) && echo 1),$(p))))
HDF5_CFLAGS := $(if $(HDF5_PC),$(call pc,--cflags,$(HDF5_PC)),-I/usr/include/hdf5/serial)
HDF5_LIBS := $(if $(HDF5_PC),$(call pc,--libs,$(HDF5_PC)),-lhdf5_serial)
BLAS_CFLAGS := $(call pc,--cflags,openblas)
BLAS_LIBS := $(or $(call pc,--libs,openblas),-lopenblas)
BLAS_ARCHIVE := $(call archive,libopenblas.a)

# ---- folders and flags -----------------------------------------------------------------------------

BUILD ?= build$(if $(filter-out $(shell uname -m),$(MACHINE)),/$(MACHINE))$(if $(filter 1,$(ASAN)),/asan)$(if $(filter 1,$(DEBUG)),/debug)$(if $(filter 1,$(RACECHECK)),/racecheck)$(if $(filter 0,$(CUDA)),$(if $(NVCC),/nocuda))
OBJ := $(BUILD)/obj
BIN := $(BUILD)/assay

COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
COMMIT_TIME := $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null)
DIRTY := $(if $(shell git status --porcelain --untracked-files=no -- ref gpu harness Makefile 2>/dev/null),dirty)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes
OPT := $(if $(filter 1,$(DEBUG)),-O0 -g,-O3 -g1)
SAN := $(if $(filter 1,$(ASAN)),-fsanitize=address$(,)undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
CPPFLAGS += -I. -D_GNU_SOURCE
CFLAGS += -std=c11 $(OPT) $(WARN) $(SAN) -fopenmp -ffp-contract=off -fno-math-errno
LDFLAGS += $(SAN) -fopenmp
LDLIBS += $(HDF5_LIBS) $(BLAS_LIBS) -ljansson -lz -lm -ldl -lpthread
# SLEEF is linked static where it can be, so that the binary runs where the library is not installed.
SLEEF_LIBS := $(if $(call archive,libsleef.a),-l:libsleef.a,-lsleef)
LDLIBS += $(SLEEF_LIBS)

# ---- sources ---------------------------------------------------------------------------------------

REF_SRC := $(filter-out ref/strip_kernels.c,$(wildcard ref/*.c))
HARNESS_SRC := $(wildcard harness/*.c)
MAIN_SRC := harness/main.c
GPU_CU := $(wildcard gpu/*.cu)
GPU_STUB := gpu/gpu_stub.c
GPU_C := $(filter-out $(GPU_STUB),$(wildcard gpu/*.c)) # built with and without nvcc

# The vector kernels of ref/ are one source compiled once for each instruction set; the program
# chooses at run time (ref/strip_kernels.h).
ifeq ($(MACHINE),x86_64)
ISAS := avx512 avx2 sse2
ISA_FLAGS_avx512 := -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mprefer-vector-width=512
ISA_FLAGS_avx2 := -mavx2 -mfma
ISA_FLAGS_sse2 := -msse2
else
ISAS := generic
ISA_FLAGS_generic :=
endif
ISA_OBJ := $(ISAS:%=$(OBJ)/ref/strip_kernels_%.o)

REF_OBJ := $(REF_SRC:%.c=$(OBJ)/%.o) $(ISA_OBJ)
HARNESS_OBJ := $(HARNESS_SRC:%.c=$(OBJ)/%.o)
LIB_OBJ := $(filter-out $(OBJ)/harness/main.o,$(HARNESS_OBJ))

ifeq ($(CUDA),1)
CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
ARCH ?= -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a \
        -gencode=arch=compute_80,code=compute_80
NVCCFLAGS += -std=c++17 $(if $(filter 1,$(DEBUG)),-O0 -g,-O3 -lineinfo) $(ARCH) -I. \
        -Xcompiler -Wall,-Wextra,-Wno-missing-field-initializers,-fPIC --threads 2 \
        $(if $(filter 1,$(RACECHECK)),-DASSAY_RACECHECK)
GPU_OBJ := $(GPU_CU:%.cu=$(OBJ)/%.o)
LDLIBS += -L$(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/targets/x86_64-linux/lib)) \
        -lcudart_static -lrt -lstdc++
else
GPU_OBJ := $(GPU_STUB:%.c=$(OBJ)/%.o)
endif
GPU_OBJ += $(GPU_C:%.c=$(OBJ)/%.o)

# ---- build -----------------------------------------------------------------------------------------

.PHONY: all
all: $(BIN) ## build build/assay (the default)

$(BIN): $(REF_OBJ) $(HARNESS_OBJ) $(GPU_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(OBJ)/ref/strip_kernels_%.o: ref/strip_kernels.c
	@mkdir -p $(@D)
	$(call say,CC,$< ($*))
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(ISA_FLAGS_$*) -fno-trapping-math -DISA=$* -DISA_$*=1 -MMD -MP -c -o $@ $<

# The commit is compiled into one file, which is built again when it changes.
COMMIT_STAMP := $(BUILD)/commit
BUILT_FROM := $(COMMIT) $(DIRTY) $(COMMIT_TIME)
ifneq ($(BUILT_FROM),$(shell cat $(COMMIT_STAMP) 2>/dev/null))
$(shell mkdir -p $(BUILD) && echo $(BUILT_FROM) >$(COMMIT_STAMP))
endif
$(OBJ)/harness/provenance.o: $(COMMIT_STAMP)
$(OBJ)/harness/provenance.o: CPPFLAGS += -DASSAY_BUILD_COMMIT='"$(COMMIT)"' \
        -DASSAY_BUILD_COMMIT_TIME='"$(COMMIT_TIME)"' -DASSAY_BUILD_DIRTY='"$(DIRTY)"'

$(OBJ)/harness/%.o: CPPFLAGS += $(HDF5_CFLAGS)
$(OBJ)/ref/%.o: CPPFLAGS += $(BLAS_CFLAGS)
$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/%.o: %.cu
	@mkdir -p $(@D)
	$(call say,NVCC,$<)
	$(Q)$(NVCC) $(NVCCFLAGS) -MMD -MP -c -o $@ $<

# The shared library: ref/ and the C ABI once more as position-independent code, with OpenBLAS inside
# where its archive is here, so that it loads where OpenBLAS is not installed; other libraries that it
# needs may lie beside it.
PIC := $(BUILD)/pic
LIB := $(BUILD)/libassay.so
LIB_ABI := harness/assay_abi.c
PIC_OBJ := $(REF_SRC:%.c=$(PIC)/%.o) $(ISAS:%=$(PIC)/ref/strip_kernels_%.o) \
        $(LIB_ABI:%.c=$(PIC)/%.o) \
        $(if $(filter 1,$(CUDA)),$(GPU_CU:%.cu=$(OBJ)/%.o),$(GPU_STUB:%.c=$(PIC)/%.o))
PIC_FLAGS := -fPIC -fvisibility=hidden
LIB_LIBS = $(filter-out $(BLAS_LIBS) $(HDF5_LIBS) -ljansson -lz,$(LDLIBS)) $(or $(BLAS_ARCHIVE),$(BLAS_LIBS)) -lm

.PHONY: lib
lib: $(LIB) ## build build/libassay.so, the chain behind a C ABI (harness/assay.h)

$(LIB): $(PIC_OBJ) harness/assay.map
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,--version-script=harness/assay.map -Wl,-z,defs -Wl,--gc-sections \
	    -Wl,-rpath,'$$ORIGIN' -o $@ $(PIC_OBJ) $(LIB_LIBS)

$(PIC)/harness/assay_abi.o: $(COMMIT_STAMP)
$(PIC)/harness/assay_abi.o: CPPFLAGS += -DASSAY_BUILD_COMMIT='"$(COMMIT)"'
$(PIC)/ref/%.o: CPPFLAGS += $(BLAS_CFLAGS)
$(PIC)/ref/strip_kernels_%.o: ref/strip_kernels.c
	@mkdir -p $(@D)
	$(call say,CC,$< ($*, pic))
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(PIC_FLAGS) $(ISA_FLAGS_$*) -fno-trapping-math -DISA=$* -DISA_$*=1 \
	    -MMD -MP -c -o $@ $<
$(PIC)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$< (pic))
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(PIC_FLAGS) -MMD -MP -c -o $@ $<

-include $(shell find $(OBJ) $(PIC) -name '*.d' 2>/dev/null)

# ---- tests -----------------------------------------------------------------------------------------

# (AddressSanitizer does not follow the emulator's fibers)
UNIT_SRC := $(filter-out $(if $(filter 1,$(ASAN)),tests/test_emulated_kernels.c),$(wildcard tests/test_*.c))
UNIT_BIN := $(UNIT_SRC:tests/%.c=$(BUILD)/tests/%)
SCRIPTS := $(wildcard tests/test_*.sh)

$(OBJ)/tests/%.o: CPPFLAGS += $(HDF5_CFLAGS)
$(BUILD)/tests/%: $(OBJ)/tests/%.o $(REF_OBJ) $(LIB_OBJ) $(GPU_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)
.SECONDARY: $(UNIT_SRC:%.c=$(OBJ)/%.o)

# Kernels of gpu/ on the CPU; a switch of fibers is a jump that _FORTIFY_SOURCE takes for an error.
EMULATOR_OBJ := $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard tests/emulator/*.cpp))
$(OBJ)/tests/emulator/%.o: tests/emulator/%.cpp
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) -Itests/emulator/include $(CPPFLAGS) -std=c++17 -O2 -g1 -Wall -Wextra -fno-strict-aliasing \
        -U_FORTIFY_SOURCE -Wno-unknown-pragmas -Wno-missing-field-initializers -Wno-unused-function \
        -Wno-sign-compare -Wno-strict-aliasing -MMD -MP -c -o $@ $<
$(BUILD)/tests/test_emulated_kernels: $(EMULATOR_OBJ)
$(BUILD)/tests/test_emulated_kernels: LDLIBS += -lstdc++

.PHONY: test
test: deps ## run all tests (installs what is missing first)
	$(Q)$(MAKE) --no-print-directory check

# `test` without installing anything.
.PHONY: check
check: $(BIN) $(UNIT_BIN)
	$(Q)ASSAY=$(abspath $(BIN)) BUILD=$(BUILD) tests/run.sh $(UNIT_BIN) $(SCRIPTS)

.PHONY: sanitize
sanitize: deps ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(Q)$(MAKE) --no-print-directory ASAN=1 CUDA=0 check

# On a GPU machine, every variant; racecheck gets a build of its own.
GPU_IMPLS ?= $(shell $(BIN) info --json 2>/dev/null | python3 -c 'import json, sys; \
    print(",".join(i["name"] for i in json.load(sys.stdin)["implementations"] \
    if i["name"].startswith("gpu-")))' 2>/dev/null)
.PHONY: sanitize-gpu
sanitize-gpu: all ## compute-sanitizer over every GPU variant (needs a GPU)
	$(Q)$(MAKE) --no-print-directory RACECHECK=1 all
	$(Q)ASSAY=$(BIN) ASSAY_RACECHECK=$(BUILD)/racecheck/assay tests/sanitize_gpu.sh $(GPU_IMPLS)

FUZZ_SECONDS ?= 60
FUZZ_CLANG ?= clang
.PHONY: fuzz
fuzz: ## fuzz the readers with clang's libFuzzer (FUZZ_SECONDS each, default 60)
	$(Q)FUZZ=1 tests/deps.sh
	$(Q)$(MAKE) --no-print-directory CUDA=0 CC=$(FUZZ_CLANG) BUILD=build/fuzz \
	    CFLAGS='$(FUZZ_CFLAGS)' LDFLAGS='$(FUZZ_LDFLAGS)' fuzz-run
FUZZ_CFLAGS := -std=c11 -O1 -g -fopenmp -fsanitize=fuzzer-no-link,address,undefined
FUZZ_LDFLAGS := -fopenmp -fsanitize=fuzzer,address,undefined
FUZZ_BIN := $(patsubst tests/fuzz_%.c,$(BUILD)/fuzz_%,$(filter-out tests/fuzz_seeds.c,$(wildcard tests/fuzz_*.c)))
$(BUILD)/fuzz_%: $(OBJ)/tests/fuzz_%.o $(REF_OBJ) $(LIB_OBJ) $(GPU_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# Not a target: writes the first inputs of fuzz_case_file.
FUZZ_SEEDS := $(BUILD)/seeds_case_file
$(FUZZ_SEEDS): $(OBJ)/tests/fuzz_seeds.o $(REF_OBJ) $(LIB_OBJ) $(GPU_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(subst fuzzer$(,),,$(LDFLAGS)) -o $@ $^ -lcmocka $(LDLIBS)
.PHONY: fuzz-run
fuzz-run: $(FUZZ_BIN) $(FUZZ_SEEDS)
	$(Q)mkdir -p $(FUZZ_BIN:%=%.corpus)
	$(Q)$(FUZZ_SEEDS) $(BUILD)/fuzz_case_file.corpus
	$(Q)printf 'home@mb8' >$(BUILD)/fuzz_descriptor.corpus/home
	$(Q)printf 'mb1ic2ih3iw4oc6kh2kw3sh2sw3ph1pw0oph1opw1dh2dw3g2bs1cb0sf-0.5e1' \
	    >$(BUILD)/fuzz_descriptor.corpus/all
	$(Q)cd $(BUILD) && for f in $(notdir $(FUZZ_BIN)); do \
	    ASAN_OPTIONS=log_path=$$f.report ./$$f -max_total_time=$(FUZZ_SECONDS) -timeout=20 \
	        -max_len=20000 -rss_limit_mb=3000 -malloc_limit_mb=1048576 -print_final_stats=1 $$f.corpus || exit 1; \
	done

.PHONY: test-pytorch
test-pytorch: deps ## cross-checks against PyTorch, in a virtual environment that it makes
	$(Q)test -x .venv/bin/python || python3 -m venv .venv
	$(Q).venv/bin/python -m pip install -q -r tests/requirements-pytorch.txt
	$(Q)$(MAKE) --no-print-directory all lib
	$(Q)ASSAY=$(abspath $(BIN)) .venv/bin/python tests/test_pytorch.py
	$(Q)ASSAY_LIBRARY=$(abspath $(LIB)) .venv/bin/python tests/test_pytorch_module.py

# ---- jobs ------------------------------------------------------------------------------------------

.PHONY: deps
deps: ## install what is missing (apt), or say what to type
	$(Q)CUDA=$(CUDA) tests/deps.sh

.PHONY: demo
demo: deps ## the home case on this machine: verified, timed, in a table
	$(Q)$(MAKE) --no-print-directory all
	$(Q)$(BIN) bench --budget 5 --rounds 10 home

.PHONY: bench
bench: all ## time every implementation on the home case and append records to results/
	$(Q)$(BIN) bench --fill kernelbench --record results/bench.jsonl home home@mb8 home@mb1

TRACK ?= home@mb1
BASE ?= HEAD~1
.PHONY: track
track: all ## bench, append records, compare with the commit before (BASE=), write report.html
	$(Q)$(BIN) bench --record results/bench.jsonl $(TRACK)
	$(Q)$(BIN) compare --dirty $(BASE) HEAD; slower=$$?; \
	    $(BIN) report --dirty --output report.html results && \
	    [ $$slower -ne 1 ] # 2: the first time there is nothing to compare with, as it says

.PHONY: lint
lint: ## folder rules, format, scripts
	$(Q)tests/lint.sh

.PHONY: format
format: ## clang-format every C, C++ and CUDA source
	$(Q)$$(command -v clang-format-14 || echo clang-format) -i $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' '*.hpp')

.PHONY: help
help: ## this list
	@grep -hE '^[a-zA-Z_-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | \
	    awk -F'\t' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: clean
clean: ## remove build/
	rm -rf build
