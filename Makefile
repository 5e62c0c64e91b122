# make demo   play a degraded drive through the real node; the run-time only, no PyTorch
# make test   ruff, mypy, pytest; adds what tests, training and building need
# make test WHEELS=jazzy   the tests that use ROS, on Jazzy's wheels in .venv-jazzy
# make test WHEELS=none PYTHON=python3.10   the tests that need no ROS, on Python 3.10 in .venv-none
# make gpu    what only an NVIDIA GPU can show, in five minutes: out/gpu/gpu.json and gpu.md
# make soak   node and display under random faults for MINUTES=10: out/soak/soak.json and soak.md
# make clean  remove what these made
#
# Each makes its own .venv first. Options: PYTHON=/path/to/python3; for demo INPUT=, DEGRADE=, RATE=,
# FRAMES=, TOPIC=, ASSUME_ENCODING=, OUT=; for test PYTEST_ARGS="-m 'not slow'"; for soak MINUTES=.

PYTHON ?= python3
# From make's command line only: the environment's OUT is somebody else's.
INPUT =
DEGRADE =
RATE =
FRAMES =
TOPIC =
ASSUME_ENCODING =
OUT =
PYTEST_ARGS =
WHEELS = kilted
MINUTES = 10
LOW =

VENV := $(CURDIR)/.venv$(patsubst %,-%,$(filter-out kilted,$(WHEELS)))
ROS := $(or $(ROS_DISTRO),pypi)
ROS_TESTS := $(addprefix test/,msgs node display heads recordings demo doctor launch)
NETWORK_TESTS := $(addprefix test/,model train export)
NO_ROS_TESTS := $(addprefix test/,engine synthetic evaluate) $(NETWORK_TESTS)
OTHER_TESTS := $(filter-out $(ROS_TESTS) $(NETWORK_TESTS),$(patsubst %/,%,$(wildcard test/*/)) \
	$(wildcard test/test_*.py))
RUN_TIME := $(VENV)/.run-time-$(ROS)
TEST := $(VENV)/.test-$(ROS)

export PYTHON WHEELS
export VIRTUAL_ENV := $(VENV)
export AMENT_PREFIX_PATH := $(VENV)$(if $(AMENT_PREFIX_PATH),:$(AMENT_PREFIX_PATH))
export ROS_LOG_DIR ?= $(CURDIR)/out/ros_log
# Set by the ROS wheels of another environment, it would keep this one's libraries from being found.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: demo test test-ros test-networks test-rest lint gpu soak clean

demo: $(RUN_TIME)
	@$(VENV)/bin/python -m unirestore_ros demo \
		$(if $(INPUT),--input '$(INPUT)') $(if $(DEGRADE),--degrade '$(DEGRADE)') \
		$(if $(RATE),--rate '$(RATE)') $(if $(FRAMES),--frames '$(FRAMES)') \
		$(if $(TOPIC),--topic '$(TOPIC)') \
		$(if $(ASSUME_ENCODING),--assume-encoding '$(ASSUME_ENCODING)') $(if $(OUT),--out '$(OUT)')

ifeq ($(WHEELS)$(PYTEST_ARGS),kilted)
# The tests that use ROS mostly wait, for discovery and for frames. All else runs beside them, on
# what they leave of the processor: in two processes of one thread each, for two of two threads
# would wait for each other.
test: $(TEST)
	@echo "Tests that use ROS, and beside them lint and all other tests. Each is shown when it ends."
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target \
		LOW='OMP_NUM_THREADS=1 nice -n 19' test-ros test-networks test-rest
else ifeq ($(WHEELS),kilted)
test: $(TEST) lint
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)
else
test: $(TEST)
	$(VENV)/bin/python -m pytest $(if $(filter none,$(WHEELS)),$(NO_ROS_TESTS),$(ROS_TESTS)) $(PYTEST_ARGS)
endif

test-ros: $(TEST)
	$(VENV)/bin/python -m pytest $(ROS_TESTS)

test-networks: $(TEST)
	$(LOW) $(VENV)/bin/python -m pytest $(NETWORK_TESTS)

test-rest: $(TEST) lint
	$(LOW) $(VENV)/bin/python -m pytest $(OTHER_TESTS)

gpu: $(TEST)
	$(VENV)/bin/python -m unirestore_ros.evaluate.gpu_report

soak: $(RUN_TIME)
	$(VENV)/bin/python -m unirestore_ros.evaluate.soak --minutes $(MINUTES) --out out/soak

# The annotations are checked against the wheels' NumPy and OpenCV; a ROS has older ones, or untyped.
MYPY := $(if $(filter pypi,$(ROS)),$(LOW) $(VENV)/bin/mypy,@echo "mypy: left out on a sourced ROS")

lint: $(TEST)
	$(LOW) $(VENV)/bin/ruff check .
	$(MYPY)

$(RUN_TIME): setup.py unirestore_ros/cli.py .ci/make-venv .ci/run-time.lock
	.ci/make-venv run-time
	@touch $@

$(TEST): setup.py unirestore_ros/cli.py .ci/make-venv $(wildcard .ci/*.lock)
	.ci/make-venv test
	@touch $(RUN_TIME) $@

clean:
	rm -rf .venv .venv-jazzy .venv-none out build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find unirestore_ros test launch -name __pycache__ -type d -prune -exec rm -rf {} +
