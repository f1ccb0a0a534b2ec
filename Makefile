# The two commands: `make demo` shows the whole thing at work, `make test` proves it. Both install what they lack.
.PHONY: build demo page test check simulate mutants campaign campaign-short reference fuzz bench bench-core instructions clean

build:
	scripts/install build
	cargo build --release

demo:
	scripts/install demo
	cargo build --release
	target/release/kafka-redis-bridge demo $(ARGS)

# The demo's page in a real headless Chromium, which it installs: what people see there; screenshots in target/page.
page:
	scripts/install page
	cargo build --release
	scripts/page $(ARGS)

test:
	scripts/install test
	cargo test --no-run
	# Most tests wait for servers: more of them than cores run at once.
	RUST_TEST_THREADS=6 scripts/with-kafka cargo test $(ARGS)

# Format, lints, documentation, licences, the service files: what .ci/run does besides the tests.
check:
	scripts/install build
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
	scripts/deny
	scripts/check-service

# Whole bridges against models of Kafka and Redis, seed after seed; `make test` runs the first 500.
simulate:
	FROM=$(or $(FROM),0) SEEDS=$(or $(SEEDS),10000) cargo test -q --test simulation

# Whether the simulation can fail: the core is broken in each of the ways of tests/simulation/mutants.
mutants:
	scripts/mutants $(ONLY)

# The core and the configuration against whatever bytes a fuzzer thinks of: each target for so many seconds.
fuzz:
	scripts/fuzz $(or $(SECONDS),60) $(ONLY)

# The whole bridge against a real Kafka and Redis, on a machine that does nothing else: docs/performance.md.
# ONLY=throughput,single,latency,bystander,growth,network,partitions,replay,serve QUICK=1 RECORDS=2000000 ROUNDS=5
# With cores of its own for Redis: taskset -c 1 make bench REDIS_CPUS=0
bench:
	scripts/install test
	ONLY="$(ONLY)" QUICK="$(QUICK)" RECORDS="$(RECORDS)" ROUNDS="$(ROUNDS)" REDIS_CPUS="$(REDIS_CPUS)" cargo bench --bench bridge

# The hot lane in pieces: decode, render, encode, replies, ledger.
bench-core:
	cargo bench --bench core -- $(ARGS)

# The same in instructions, where the machine is too busy for times.
instructions:
	scripts/install instructions
	scripts/instructions "$(ARGS)"

# Faults against the real Kafka and Redis, one after the other: docs/reliability.md. ONLY=redis-oom,rst FAULTS=200 SEED=7
# LONG=1; LIST=1 tells the cases.
campaign:
	scripts/install test
	cargo test --no-run --test campaign --test promises
	ONLY="$(ONLY)" FAULTS="$(FAULTS)" SEED="$(SEED)" SHORT="$(SHORT)" LONG="$(LONG)" LIST="$(LIST)" cargo test -q --test campaign

# At most five minutes of it.
campaign-short:
	$(MAKE) campaign SHORT=1

# The pages that are generated from the code.
reference:
	cargo run -q -- schema > config/schema.json
	cargo run -q -- schema --markdown > docs/configuration.md
	cargo run -q -- serve --openapi > docs/openapi.json

clean:
	cargo clean
