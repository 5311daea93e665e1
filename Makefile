# Two commands on a fresh machine: `make demo` and `make test`. Everything is installed into .venv of this checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
XVFB := xvfb-run -a -s "-screen 0 1600x1000x24"
SYSTEM_PACKAGES := xvfb xauth libgl1-mesa-dri libegl1 libgl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 \
	libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1 \
	libdbus-1-3 libopengl0

.PHONY: demo test viewer setup system check lint sample screenshot bench clean

# The network outlines both sample patients at every visit from one click at the first.
demo: setup
	for patient in progressing improving; do $(BIN)/convlstm-tumor run sample_data/$$patient -o results/demo \
		--masks ignore --prompts sample_data/$$patient/click.json || exit 1; done

viewer: setup system
	test -f results/demo/progressing/run.json || $(MAKE) demo
	$(BIN)/napari results/demo/progressing --plugin napari-convlstm-tumor -w napari-convlstm-tumor "Tumor growth"

# Two processes, each with whole files of tests; on more cores too, as some tests measure memory.
test: setup system lint
	$(XVFB) $(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile

setup: $(STAMP)

# --no-cache-dir is not used: a second run is quick. The index of plain torch has gigabytes of CUDA: see constraints.txt.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $(STAMP)

# The viewer and its tests draw on a virtual screen: apt when root, else the line to run.
system:
	@command -v xvfb-run >/dev/null && ldconfig -p | grep -q libxcb-cursor && ldconfig -p | grep -q libEGL || { \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(SYSTEM_PACKAGES); \
	else echo "Install the viewer's system packages: sudo apt-get install $(SYSTEM_PACKAGES)"; exit 1; fi; }

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint

# The committed sample: two simulated patients (ICBM152 maps, no patient's data).
sample: setup
	$(BIN)/python benchmarks/make_sample.py sample_data

screenshot: setup system
	$(XVFB) $(BIN)/python benchmarks/screenshot.py results/demo/progressing docs/images/viewer.png

# The recurrent core beside a plain cell and its convolutions; make bench BENCH="--shared" on a busy machine.
bench: setup
	$(BIN)/python benchmarks/recurrence.py $(BENCH)

clean:
	rm -rf $(VENV) results
