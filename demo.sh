#!/usr/bin/env bash
# Shows what emaj does, on a throw-away PostgreSQL and directory: installs what is missing, builds, runs `emaj demo`.
# Nothing is left running, port 5432 is not touched. Arguments go to `emaj demo`; `--without-directory` tells its first part only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
tools/provision.sh
. tools/rust.sh
use_rust
cargo build --release --locked --bin emaj
# `cargo run` knows where the program is, wherever CARGO_TARGET_DIR points to.
exec cargo run --release --locked --quiet --bin emaj -- demo "$@"
