# make demo: see it work.
# make test: everything that a change must pass, cheapest first.
# make bench: measure its speed.

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR

.PHONY: all bench build clean conformance demo deny fmt fuzz golden install-deps lint scopes-diff \
	soak test test-conformance test-demo test-kryoptic test-python test-rust try-units

all: build

install-deps:
	@scripts/install-deps

# A step of more than a few seconds prints its task, the time it takes, and that it goes on. The
# times are for 2 cores.
progress := scripts/progress
built := the first time about five minutes, then seconds

build: install-deps
	@$(progress) 'Building' '$(built)' cargo build --release --locked

demo:
	@scripts/demo

# Half a minute once it is built, and up to three times that on a disturbed machine. `make bench
# BENCH=--long` takes ten minutes. `make bench BENCH='--beside old=/path/to/countersign-agent'`
# measures another build in turns with this one, and may have more than one `--beside`.
bench:
	@scripts/install-deps bench
	@$(progress) 'Building' '$(built)' cargo build --release --locked
	@$(progress) 'Building what measures' 'the first time about two minutes, then seconds' \
		cargo build --release --locked -p countersign-bench
	"$(CARGO_TARGET_DIR)/release/countersign-bench" run --python "$$(scripts/python-env)" \
		--json "$(CARGO_TARGET_DIR)/bench.json" $(BENCH)

test: install-deps lint test-rust test-python test-conformance test-demo

fmt:
	cargo fmt --all

# The crates in which no file takes part in a circle of imports, and no room imports from one above
# it.
in_order := agent agent/base agent/core agent/front agent/token client

# cargo-deny is offline and needs the crates of other platforms too. cargo does not fetch those for
# building.
lint:
	@$(progress) 'Looking at the format' 'seconds' cargo fmt --all --check
	@$(progress) 'Looking at the width of lines' 'seconds' scripts/check-width
	@$(progress) 'Trying what looks for circles of imports' 'seconds' scripts/check-circles-test
	@$(progress) 'Looking for circles of imports' 'seconds' scripts/check-circles $(in_order)
	@$(progress) 'Trying what looks for imports from a higher floor' 'seconds' \
		scripts/check-floors-test
	@$(progress) 'Looking for imports from a higher floor' 'seconds' scripts/check-floors $(in_order)
	@$(progress) 'Looking at what each crate may name' 'seconds' scripts/check-walls
	@$(progress) 'Trying what looks for names that mean two things' 'seconds' \
		scripts/check-names-test
	@$(progress) 'Looking for names that mean two things' 'seconds' \
		scripts/check-names $(in_order) pkcs11-profiles
	@$(progress) 'Counting sentences that begin with What, Who, Whether or How' 'seconds' \
		scripts/check-sentences
	@$(progress) 'Looking for lints' 'the first time about three minutes, then half a minute' \
		cargo clippy --workspace --all-targets --locked -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(progress) 'Building the documentation' \
		'the first time about two minutes, then seconds' \
		cargo doc --workspace --no-deps --locked --quiet
	@$(progress) 'Fetching the crates of other platforms' \
		'the first time half a minute, then seconds' \
		cargo fetch --locked --quiet
	@$(progress) 'Looking at licences and sources of crates' 'seconds, after its tool was built' \
		scripts/cargo-deny --offline --log-level error check bans licenses sources
	@$(progress) 'Looking at the systemd units' 'seconds' scripts/check-units

test-rust:
	@$(progress) 'Building the tests' '$(built)' cargo test --workspace --locked --no-run --quiet
	@$(progress) 'Testing in Rust' 'about five minutes' cargo test --workspace --locked

# The scenarios of faults in their long form, about an hour: 10,000 kills, 1,000 starts with a wrong
# PIN for each kind of token, 500 faults at every step of a touch. They use the release build,
# because restarts take most of the time. They run one after the other, so that nothing disturbs the
# timed ones.
soak: test-kryoptic
	COUNTERSIGN_SOAK=1 cargo test --workspace --release --locked --test e2e -- --nocapture \
		--test-threads 1 crashes:: hostile:: hosts:: limits::clock service::watchdog \
		sockets::many_connections vault::killed yubikey::card_pins yubikey::touch_faults

# Tests with a token that locks its PIN. SoftHSM never does. Not in `make test`, because the module
# takes a minute to build.
test-kryoptic:
	module="$$(scripts/kryoptic)" && COUNTERSIGN_KRYOPTIC="$$module" \
		cargo test --workspace --locked --test e2e -- --ignored --nocapture hosts::lock_out

# Tests against a running agent with a SoftHSM token, with the programs that the Rust tests build.
test-python:
	@$(progress) 'Building the programs of the tests' '$(built)' \
		cargo test --workspace --locked --no-run --quiet
	@python="$$(scripts/python-env)" && cd client/python && \
		../../$(progress) 'Testing in Python, with ccxt' 'about five minutes' \
		"$$python" -W error -m unittest discover --start-directory tests --top-level-directory .

# The long form of one of them: 1,000 forks and 1,000 cancelled tasks beside threads that never stop
# asking. It takes some minutes.
test-python-long:
	cargo test --workspace --locked --no-run --quiet
	cd client/python && COUNTERSIGN_LONG=1 "$$(../../scripts/python-env)" -W error \
		-m unittest tests.test_nobody_waits

# First compares every recipe with ccxt's own sign(), on COUNT random requests for each exchange and
# kind of key. SEED chooses them. Then sends odd values through attach: 42 values to each of
# ENDPOINTS endpoints. Then tries every unified method of ccxt with its options, at exchanges whose
# signatures leave method or path open. Uses the programs that the Rust tests build, as test-python
# does: building them alone would build all crates once more.
COUNT ?= 200
ENDPOINTS ?= 5
SEED ?= 1
conformance:
	@$(progress) 'Building the programs of the tests' '$(built)' \
		cargo test --workspace --locked --no-run --quiet
	@python="$$(scripts/python-env)" && cd tests && \
		../$(progress) 'Comparing $(COUNT) requests to each exchange with ccxt' \
		'a minute for 20, ten for 200' \
		"$$python" -W error -m conformance --count $(COUNT) --seed "$(SEED)" \
		--recipe "$(CARGO_TARGET_DIR)/debug/examples/recipe"
	@python="$$(scripts/python-env)" && cd client/python && \
		../../$(progress) 'Sending odd values through attach' 'some minutes' \
		"$$python" -W error -m tests.odd_values --endpoints $(ENDPOINTS) --seed "$(SEED)"
	@python="$$(scripts/python-env)" && cd tests && \
		../$(progress) "Trying the unified methods of ccxt with their options" 'some minutes' \
		"$$python" -W error -m conformance.unified --recipe "$(CARGO_TARGET_DIR)/debug/examples/recipe"

# Writes the texts that tests compare and a reviewer reads: the decision about every endpoint, and
# the amounts that limits count for ccxt's orders.
golden:
	cargo test --workspace --locked --quiet --test golden --test ccxt_orders --test inert -- \
		--ignored --exact write
	git status --short tests/scopes.golden tests/orders

# Lists the endpoints that the installed ccxt has and the tables do not.
scopes-diff:
	cd tests && "$$(../scripts/python-env)" -W error -m conformance.endpoints

# Checks that limits are tried on the orders that the installed ccxt sends.
test-conformance:
	@$(MAKE) --no-print-directory conformance COUNT=20 ENDPOINTS=1
	@python="$$(scripts/python-env)" && cd tests && \
		../$(progress) 'Comparing the orders of ccxt with those that limits are tried on' 'a minute' \
		"$$python" -W error -m conformance.orders

# Tries the systemd units under a systemd that is started only for this. Run it as root or with
# sudo. Half a minute once it is built.
try-units: install-deps
	cargo test --workspace --locked --no-run --quiet
	@scripts/try-units

# Runs the half of the demo that no other test covers, with the programs of the tests. A quarter of
# a minute.
test-demo:
	@$(progress) 'Building the programs of the tests' '$(built)' \
		cargo test --workspace --locked --no-run --quiet
	@$(progress) 'Walking through the demo' 'half a minute' \
		scripts/demo-touch "$(CARGO_TARGET_DIR)/debug" >/dev/null

# Shows every warning too, such as a crate in two versions.
deny:
	scripts/cargo-deny --offline check bans licenses sources

# Runs every target of fuzz/ for TIME seconds. `make test` runs the same functions for a few
# seconds.
TIME ?= 60
fuzz:
	@scripts/fuzz $(TIME)

clean:
	cargo clean
