PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEVICE ?= cpu
STAMP := $(VENV)/.installed
SOURCES := $(shell find harness methods tasks reports results/__init__.py results/paper.csv -name '*.py' -o -name '*.json' -o -name '*yaml' -o -name '*.safetensors' -o -name paper.csv -o -name '*.css' -o -name '*.js' -o -name '*.jinja' -o -name '*.mplstyle' 2>/dev/null)
# The commit of what is installed here, for runs to tell; empty outside a repository.
CODE := harness methods tasks reports results/__init__.py results/paper.csv pyproject.toml
COMMIT = $(shell git rev-parse --verify --quiet HEAD 2>/dev/null | tr -d '\n'; git status --porcelain -- $(CODE) 2>/dev/null | grep -q . && printf %s -dirty)

.PHONY: run test lint types bench bench-regress bench-update inside embedded results tables evidence real sources regress cpu-profile gpu-profile estimate gpu-scan gpu-decode clean

## run: install, then the main job: one memory method and its controls on the embedded tasks
run: $(STAMP)
	$(BIN)/deltamem-eval run --method token-write

## test: install, then style, types and tests, a file at a time on each core
test: export OMP_NUM_THREADS := 1
test: export HF_HUB_OFFLINE := 1
test: lint types
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy -p deltamem_eval

## bench: speed as ratios within one run, one thread, in one table; correctness is checked first
BENCH := runs/bench-cpu.csv
bench: export OMP_NUM_THREADS := 1
bench: $(STAMP)
	$(BIN)/python benchmarks/all.py --out $(BENCH)

## bench-regress: the table of `make bench` against the tracked one; exit code 1 where a ratio fell
bench-regress: bench
	$(BIN)/deltamem-eval regress results/bench-cpu.csv $(BENCH)

## bench-update: the table of `make bench` as the tracked one
bench-update: bench
	$(BIN)/deltamem-eval regress results/bench-cpu.csv $(BENCH) --update

## inside: where the embedded adapters write, what their keys find, and how they label
inside: $(STAMP)
	$(BIN)/python benchmarks/inside.py
	$(BIN)/python benchmarks/labels.py --out results/embedded_labels.csv

## embedded: make the embedded tokenizer, backbone and adapters again from nothing
embedded: $(STAMP)
	$(BIN)/python -m deltamem_eval.make_embedded --out tasks/embedded/weights --device $(DEVICE)

## results: the embedded table of every method anew, three seeds, one thread, as tracked in results/
TABLE := runs/embedded
DRAWN := runs/embedded-report
TEN := vanilla,bm25-rag,llmlingua2,memorybank,memgen,context2lora,mlp-memory,token-write,sequence-write,multi-write
results: export OMP_NUM_THREADS := 1
results cpu-profile gpu-profile estimate: export DELTAMEM_EVAL_COMMIT = $(COMMIT)
results: $(STAMP)
	rm -rf $(TABLE)
	$(BIN)/deltamem-eval run --method $(TEN) --window 0,64,256 --seeds 0,1,2 --option summaries=none --out $(TABLE)
	$(MAKE) tables

## tables: what results/ tracks, from the runs of `make results`
tables: $(STAMP)
	mkdir -p results/provenance
	$(BIN)/deltamem-eval regress results/embedded.csv $(TABLE) --update
	$(BIN)/deltamem-eval report $(TABLE) --by source,associations --format csv > results/embedded_associations.csv
	$(BIN)/deltamem-eval report $(TABLE) --by source,context_tokens --format csv > results/embedded_lengths.csv
	$(BIN)/deltamem-eval report $(TABLE) --by window_share,category --format csv > results/embedded_shares.csv
	$(BIN)/deltamem-eval report $(TABLE) --by context_tokens --format csv > results/embedded_pooled_lengths.csv
	$(BIN)/deltamem-eval report $(TABLE) --by window_share --format csv > results/embedded_pooled_shares.csv
	$(BIN)/deltamem-eval report $(TABLE) --table averages --format csv > results/embedded_averages.csv
	cp $(TABLE)/run.json results/provenance/embedded.json
	$(BIN)/deltamem-eval report $(TABLE) --format svg --out $(DRAWN)
	cp $(DRAWN)/figures/frontier.svg $(DRAWN)/figures/retention.svg docs/figures

## regress: two methods again, one thread, against the tracked table; exit code 1 where anything is worse
GATED := vanilla,token-write
AGAIN := runs/regress
regress: export OMP_NUM_THREADS := 1
regress: $(STAMP)
	rm -rf $(AGAIN)
	$(BIN)/deltamem-eval run --method $(GATED) --window 0,64 --seeds 0 --quiet --out $(AGAIN) > /dev/null
	$(BIN)/deltamem-eval regress results/embedded.csv $(AGAIN) --subset

## evidence: how often the fact asked for stands in the prompt on real rows; ROWS is MemoryAgentBench's Conflict_Resolution file
evidence: $(STAMP)
	$(BIN)/python benchmarks/evidence.py $(ROWS) --out results

## real: MemoryAgentBench's Conflict_Resolution file, ROWS, through the embedded model, one thread, into results/
REAL := runs/real
ON_REAL := oracle-last-write,oracle-first-write,vanilla,bm25-rag,token-write
real: export OMP_NUM_THREADS := 1
real: $(STAMP)
	rm -rf $(REAL)
	$(BIN)/deltamem-eval run --rows $(ROWS) --window 256 --method $(ON_REAL) --out $(REAL)
	$(BIN)/deltamem-eval report $(REAL) --by source --format csv > results/conflict_resolution.csv
	$(BIN)/python benchmarks/long_row.py $(ROWS) --out results/long_row.csv

## sources: in-context-learning rows rebuilt from raw data sets, answered without a model, into results/; RAW is their folder
sources: export OMP_NUM_THREADS := 1
sources: $(STAMP)
	$(BIN)/python benchmarks/sources.py $(RAW) --out results

## cpu-profile: memory and speed by context length of the embedded backbone's sizes, one thread, as tracked in results/
SIZES := --random-weights embedded --prompt-lengths 1k,2k,4k,8k,16k --decode 64 --device cpu
ON_CPU := runs/profile-cpu
cpu-profile: export OMP_NUM_THREADS := 1
cpu-profile: $(STAMP)
	rm -rf $(ON_CPU)
	$(BIN)/deltamem-eval profile $(SIZES) --quiet --out $(ON_CPU)/memories --method token-write,sequence-write,multi-write \
		--option write_length=1024 > /dev/null
	$(BIN)/deltamem-eval profile $(SIZES) --quiet --out $(ON_CPU)/others --method vanilla,context2lora,mlp-memory,memgen > /dev/null
	$(BIN)/deltamem-eval report $(ON_CPU)/memories $(ON_CPU)/others --out $(ON_CPU)/report --format csv,svg
	cp $(ON_CPU)/report/tables/profile.csv results/profile-cpu.csv
	cp $(ON_CPU)/report/figures/profile.svg docs/figures/profile-cpu.svg

## gpu-profile: on a CUDA device, memory and speed of the paper's backbones with random weights, into results/gpu/
LENGTHS := --prompt-lengths 4k,16k,32k --decode 64,256 --device cuda --dtype bfloat16
WITH := --random-weights
FOUR := $(WITH) Qwen/Qwen3-4B-Instruct-2507
SEVEN := vanilla,context2lora,token-write,sequence-write,multi-write,mlp-memory,memgen
gpu-profile: $(STAMP)
	rm -rf $(addprefix results/gpu/,qwen3-4b qwen3-4b-window smollm3-3b qwen3-8b)
	$(BIN)/deltamem-eval profile $(FOUR) $(LENGTHS) --out results/gpu/qwen3-4b \
		--method $(SEVEN)
	$(BIN)/deltamem-eval profile $(FOUR) $(LENGTHS) --out results/gpu/qwen3-4b-window --modes window --window 2048 \
		--method llmlingua2,bm25-rag
	$(BIN)/deltamem-eval profile $(WITH) HuggingFaceTB/SmolLM3-3B $(LENGTHS) --method vanilla,token-write --out results/gpu/smollm3-3b
	$(BIN)/deltamem-eval profile $(WITH) Qwen/Qwen3-8B $(LENGTHS) --method vanilla,token-write --out results/gpu/qwen3-8b
	$(BIN)/deltamem-eval report results/gpu/qwen3-4b results/gpu/qwen3-4b-window --out results/gpu/report --format md,csv,latex,pdf,svg

## estimate: what gpu-profile is to measure of Qwen3-4B, from shapes and without a GPU, as tracked in results/
AHEAD := runs/estimate-qwen3-4b
estimate: $(STAMP)
	rm -rf $(AHEAD)
	$(BIN)/deltamem-eval profile $(FOUR) $(LENGTHS) --estimate --quiet --out $(AHEAD) --method $(SEVEN) > /dev/null
	$(BIN)/deltamem-eval report $(AHEAD) --table profile --format csv > results/estimate-qwen3-4b.csv

## gpu-scan: on a CUDA device, the scan's Triton programs against their baselines, into results/gpu/scan.csv
gpu-scan: $(STAMP)
	mkdir -p results/gpu
	$(BIN)/python benchmarks/gpu_scan.py --out results/gpu/scan.csv

## gpu-decode: on a CUDA device, token-write's decoding, memory and training step against its backbone alone
gpu-decode: $(STAMP)
	mkdir -p results/gpu
	$(BIN)/python benchmarks/gpu_decode.py --out results/gpu/decode.csv

# A plain (not editable) install: what users get, and what the type checker can follow.
$(STAMP): pyproject.toml constraints.txt README.md $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt '.[test]'
	rm -rf build
	touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
