# What one types in a fresh clone. All but the guest (~/.cache/wspilot, 42 MiB) lives in
# .venv and .cache; `make clean` takes both away.
# The work is done by .ci/ (set-up) and tests/run.py (stages, time limits, counts).

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
# What real guests need on Debian: QEMU, its disk tool, and what builds the small guest.
QEMU_PACKAGES := qemu-system-x86 qemu-utils cpio e2fsprogs gzip
# `make demo VMM=sim` asks for simulated guests and installs nothing.
VMM ?=
DEMO_ARGS ?=
# Where `make install-node` puts the node code, for an epilogue: root's, and nobody else's to change.
LIBEXEC ?= /usr/local/libexec
# `make test ARGS="-k spool"` hands arguments on to pytest; WITHOUT=xen leaves a stage out.
ARGS ?=
WITHOUT ?=

.DEFAULT_GOAL := help
.PHONY: help demo install-node test test-fast test-unit test-sim test-slurm test-leases test-qemu test-tui test-looks test-debian test-xen lint format screens bench clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\): *## */  make \1@/p' Makefile | awk -F@ '{ printf "%-20s %s\n", $$1, $$2 }'

demo:            ## set up, then lease four virtual nodes on this machine and watch them
	@sh .ci/venv.sh run
	@QEMU_PACKAGES="$(QEMU_PACKAGES)" VMM="$(VMM)" sh .ci/qemu.sh
	@exec $(VENV)/bin/wspilot demo $(if $(VMM),--vmm $(VMM)) $(DEMO_ARGS)

install-node:    ## as root, on each node: root's copy of the node code (for an epilogue), and the root helper
	@sh .ci/venv.sh run
	@mkdir -p "$(DESTDIR)$(LIBEXEC)"
	@$(VENV)/bin/python -c 'import sys; from pathlib import Path; from wspilot.nodecode import build, build_root; print(build(Path(sys.argv[1])), sys.argv[1]); build_root(Path(sys.argv[2]))' "$(DESTDIR)$(LIBEXEC)/wspilot-node.pyz" "$(DESTDIR)$(LIBEXEC)/wspilot-root"
	@echo "$(DESTDIR)$(LIBEXEC)/wspilot-root: allows nothing without /etc/wspilot/node.conf and a sudo rule (docs/operating.md)"

test:            ## set up, then every test this machine can run, real parts included
	@sh .ci/venv.sh test
	@exec $(PY) -m tests.run $(addprefix --without=,$(WITHOUT)) $(if $(ARGS),-- $(ARGS))

test-fast:       ## unit and simulation without the slow ones, under a minute
	@sh .ci/venv.sh test
	@exec $(PY) -m tests.run --fast unit sim $(if $(ARGS),-- $(ARGS))

test-unit:       ## the unit tests
test-sim:        ## the whole system in virtual time
test-slurm:      ## a real four-node Slurm (root)
test-leases:     ## whole leases on the built-in batch system
test-qemu:       ## real guests and their networks
test-tui:        ## the terminal interface
test-looks:      ## its screens, beside those that somebody has looked at
test-debian:     ## a fresh clone in a minimal Debian root (root)
test-xen:        ## a real Xen host, built and booted under emulation (root)
test-unit test-sim test-slurm test-leases test-qemu test-tui test-looks test-debian test-xen:
	@sh .ci/venv.sh test
	@exec $(PY) -m tests.run $(@:test-%=%) $(if $(ARGS),-- $(ARGS))

lint:            ## ruff check, ruff format --check, mypy --strict
	@sh .ci/venv.sh test
	@exec $(PY) -m tests.run lint

format:          ## let ruff put the layout right
	@sh .ci/venv.sh test
	@$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

screens:         ## README's pictures of the terminal interface, from the demo's site
	@sh .ci/venv.sh test
	@env -i PATH="$$PATH" HOME=/nonexistent TZ=UTC LC_ALL=C.UTF-8 TERM=xterm-256color COLORTERM=truecolor \
		$(PY) -m wspilot.tui.shots docs/screens

bench:           ## the benchmark's figures, as a table
	@sh .ci/venv.sh test
	@exec $(PY) -m tests.bench $(ARGS)

clean:           ## remove what make made in this directory
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
	find wspilot tests -name __pycache__ -type d -prune -exec rm -rf {} +
