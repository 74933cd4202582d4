# make fit    sets up, trains the quick net by the robust recipe on the embedded data, tests it, writes its report, and
#             says whether the result is as expected
# make notebooks   runs the notebooks and renders them into docs/notebooks (not 00: it is for your own pictures)
# make bench  measures the speed against the textbook net and writes docs/performance.md, in 10 minutes on two cores
# make fashion-mnist   trains on real pictures, Fashion-MNIST, and tests the net; FASHION=DIR is where its four files are
# make test   sets up, checks style and types, runs the tests
# make test-minimum   runs the tests with the lowest versions that pyproject.toml allows, in .venv-minimum;
#                     INSTEAD=torch==2.13.0 replaces a bound: on Linux the lowest torch is a CUDA build of gigabytes
# make faults    kills, signals, failing disks and random input in loops, and writes their table into docs/reliability.md:
#                and says what survived; Linux
# make runtime   gets the browser's runtime of `gfnet export --page` from npm, which only this needs
# make constraints    writes the versions in .venv to constraints.txt
PYTHON ?= python3
BIN := .venv/bin
MINIMUM := .venv-minimum
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 8 --dist worksteal # each test runs on one thread

.PHONY: setup fit fashion-mnist notebooks bench test test-minimum faults runtime constraints

setup: $(BIN)/gfnet

# `--upgrade-strategy only-if-needed` (pip's default) keeps a torch that is already in .venv: put another build there
# first, say one for your CUDA, and it stays.
$(BIN)/gfnet: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

fit: setup
	$(BIN)/gfnet fit --config base.yaml --config quick.yaml --config robust.yaml
	$(BIN)/gfnet test
	$(BIN)/gfnet report
	$(BIN)/python benchmarks/seeds.py check
	@echo "try it before a webcam, and use it elsewhere: $(BIN)/gfnet export --page (docs/export.md)"

FASHION ?= /usr/share/datasets/fashion-mnist

fashion-mnist: setup
	@test -d $(FASHION) || { echo "$(FASHION) is no folder: on Debian and Ubuntu, apt-get install dataset-fashion-mnist"; \
		echo "elsewhere, make fashion-mnist FASHION=DIR, with train-images-idx3-ubyte.gz and the other three in DIR"; exit 2; }
	$(BIN)/gfnet fit --config fashion-mnist.yaml --data.root $(FASHION)
	$(BIN)/gfnet test
	$(BIN)/gfnet report

notebooks: setup
	rm -rf docs/notebooks/*_files
	GFNET_NOTEBOOKS=$$(mktemp -d) $(BIN)/python -m jupyter nbconvert --to markdown --execute \
		--TemplateExporter.template_file=docs/notebooks/rendered.md.j2 --output-dir docs/notebooks notebooks/0[1-9]*.ipynb

bench: setup
	$(BIN)/python benchmarks/performance.py --write docs/performance.md --plot docs/performance.svg

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

# Without ruff and mypy: other versions of them format differently, and of NumPy's types find other faults.
test-minimum:
	$(PYTHON) -m venv --clear $(MINIMUM)
	$(MINIMUM)/bin/python .ci/minimum.py $(INSTEAD) > $(MINIMUM)/constraints.txt
	PIP_CONSTRAINT= $(MINIMUM)/bin/python -m pip install --quiet --constraint $(MINIMUM)/constraints.txt --editable ".[test]"
	$(MINIMUM)/bin/python -m pytest $(SIDE_BY_SIDE)

faults: setup
	$(BIN)/python tests/faults.py --write docs/reliability.md

runtime: setup
	npm pack onnxruntime-web@1.30.0
	$(BIN)/python .ci/runtime.py onnxruntime-web-1.30.0.tgz
	rm onnxruntime-web-1.30.0.tgz

# "+cpu" and the like name a build of torch: any build of that version will do.
constraints:
	{ grep '^#' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+.*//'; } > constraints.new
	mv constraints.new constraints.txt
