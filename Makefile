# make reproduce   sets everything up, trains and judges every method and baseline, prints the tables
# make results     puts the rows of finished quick and full runs into the ledger, and renders RESULTS, figures and README's datasets
# make test        sets everything up, runs all tests and all notebooks
# make lab         opens the notebooks in JupyterLab, in quick mode
# make site        builds the notebooks and the course pack into pages: build/site/_build/html/index.html
# make bench       times the kit beside its peers
# make rehearse    goes through the papers' settings on the CPU, two steps each, and says what a GPU will need
# MODE=smoke|quick|full (or IQA_MODE) says how much is computed; IQA_DATA=folder says where datasets lie.

PYTHON ?= python3
BIN := .venv/bin
# Threads that wait should sleep: spinning ones slow everything down many times when the machine has other work.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: reproduce results test lab site bench rehearse clean
.DEFAULT_GOAL := reproduce

# A person who opens a notebook wants what its text describes (quick); `make reproduce` alone is a run-through (smoke).
reproduce: export IQA_MODE := $(or $(MODE),$(IQA_MODE),smoke)
reproduce: .venv/ready
	$(BIN)/python -m figures.reproduce

results: .venv/ready
	$(BIN)/python -m figures.reproduce results

# Tests always run small. One thread a worker: two workers with two threads each would fight over two cores.
test: export IQA_MODE := smoke
test: export OMP_NUM_THREADS := 1
test: .venv/ready
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --doctest-modules --durations=5
	$(BIN)/python -m pytest -q -n 2 --dist loadscope --nbval --nbval-current-env --nbval-cell-timeout=300 notebooks

lab: export IQA_MODE := $(or $(MODE),$(IQA_MODE),quick)
lab: .venv/ready
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

site: .venv/ready
	@$(call install,site)
	$(BIN)/jupyter-book build --quiet --path-output build/site notebooks
	@echo "The pages: build/site/_build/html/index.html"

bench: export IQA_MODE := $(or $(MODE),$(IQA_MODE),smoke)
bench: .venv/ready
	@$(call install,bench)
	$(BIN)/python -m figures.bench.distortions
	$(BIN)/python -m figures.bench.pairs
	$(BIN)/python -m figures.bench.peers

rehearse: export IQA_MODE := full
rehearse: .venv/ready
	$(BIN)/python -m figures.rehearse $(METHODS)

# Bytecode is compiled once, here, as pip does: else every process compiles torch again
# where Python may not write what it compiled (PYTHONDONTWRITEBYTECODE, a folder of somebody else).
comma := ,
install = if command -v uv >/dev/null 2>&1; then uv pip install --compile-bytecode --python $(BIN)/python -e '.[$(1)]'; \
	elif [ -x $(BIN)/uv ]; then $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python -e '.[$(1)]'; \
	else $(BIN)/python -m pip install -e '.[$(1)]'; fi

# uv when it is there. Else pip fetches it into the environment, because it installs torch in a fraction of the time;
# where even that fails, pip does the work. A finished set-up is marked, so a second call does nothing.
.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up .venv (torch, torchvision, timm, JupyterLab); a few minutes on a slow network ..."
	@if command -v uv >/dev/null 2>&1; then uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" .venv; \
	else $(PYTHON) -m venv .venv && { $(BIN)/python -m pip install --quiet uv || true; }; fi
	@$(call install,lab$(comma)test)
	@touch $@

clean:
	rm -rf .venv build *.egg-info
