PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The tests start hundreds of processes: their modules are compiled once, also where the environment says otherwise.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-thorough lint build schemas clean miri

# The stamp makes the second `make` start at once; it is remade when a source of the native core or a dependency changes.
$(VENV)/.installed: pyproject.toml core/Cargo.toml $(shell find core/src generated -name '*.rs' 2>/dev/null)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[embedded,postgres,dev]'
	touch $@

build: $(VENV)/.installed

demo: build
	$(BIN)/pipeline demo

test: build
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not alone and not thorough"
	$(BIN)/python -m pytest -m "alone and not thorough"
	cargo test --manifest-path core/Cargo.toml --no-default-features --quiet

# Long repeats of what the tests show once: every worker killed, all vectors, many kills in a row.
test-thorough: build
	$(BIN)/python -m pytest -m thorough

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cargo fmt --manifest-path core/Cargo.toml --check
	cargo clippy --manifest-path core/Cargo.toml --all-targets --quiet -- --deny warnings

# The shared-memory protocol under Miri, which checks every access and plays weak memory. Needs `rustup +nightly component add miri`.
miri:
	cargo +nightly miri test --manifest-path core/Cargo.toml --no-default-features --test shm_threads

# Rebuild everything that is derived from schemas/*.fbs.
schemas:
	$(BIN)/python -m schemas.generate

clean:
	rm -rf $(VENV) core/target
