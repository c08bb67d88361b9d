# Short names for what is done often. `.ci/run` needs none of them.

# Debian's LLVM; a toolchain with the llvm-tools component needs neither.
export LLVM_COV := env("LLVM_COV", "/usr/bin/llvm-cov-19")
export LLVM_PROFDATA := env("LLVM_PROFDATA", "/usr/bin/llvm-profdata-19")
# Children that tests kill leave profiles that end too early.
export LLVM_PROFDATA_FLAGS := "--failure-mode=all"

default:
    @just --list

# Every test.
test:
    cargo test --all-features

# What the machine checks before a change is taken.
ci:
    .ci/run

# The demonstration.
demo:
    cargo run --release --features cli -- demo

# One fuzz target for a minute.
fuzz target="index_ops" seconds="60":
    mkdir -p fuzz/target/found/{{target}}
    RUSTC_BOOTSTRAP=1 cargo fuzz run -s none {{target}} fuzz/target/found/{{target}} fuzz/corpus/{{target}} -- -max_total_time={{seconds}}

# Every fuzz target, an hour each.
fuzz-long seconds="3600":
    for target in $(cargo fuzz list); do just fuzz "$target" {{seconds}} || exit 1; done

# Lines that the tests reach; needs cargo-llvm-cov.
coverage:
    cargo llvm-cov --all-features --html

# unlisted beside other stores; RocksDB takes minutes to build and needs libclang (Debian: libclang-dev).
peers *args="--listings 1000000":
    cargo run --release --manifest-path benches/peers/Cargo.toml -- {{args}}

# Format and lints of benches/peers, which `.ci/run` leaves out because of its C and C++.
peers-check:
    cargo fmt --manifest-path benches/peers/Cargo.toml --check
    cargo clippy --manifest-path benches/peers/Cargo.toml --all-targets -- -D warnings
    cargo test --manifest-path benches/peers/Cargo.toml

# Three nodes on a Valkey cluster: `just fleet start target/fleet`, `status`, `add`, `stop`. examples/fleet/README.md.
fleet *args:
    examples/fleet/run {{args}}

# The discovery service's demonstration: examples/identity-service/README.md.
identity-service *args:
    cargo run --manifest-path examples/identity-service/Cargo.toml -- {{args}}

# It driven by matrix-js-sdk, and its page opened by Chromium; needs npm and chromium (`--no-page`: npm only).
identity-client *args:
    examples/identity-service/js/run {{args}}

# It beside Sydent, the reference server; needs Python with pip.
identity-compare:
    examples/identity-service/sydent/compare
