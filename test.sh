#!/usr/bin/env bash
# Runs all tests: installs what is missing, builds, runs. Arguments go to `cargo test`.
#
#   ./test.sh                          everything
#   ./test.sh --lib                    only what needs no server
#   ./test.sh --test main rollback::   one module of the integration tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

for argument in "$@"; do
    if [ "$argument" = --all-versions ]; then
        echo "error: \`--all-versions\` is not available yet: the tests run on one version of PostgreSQL" >&2
        echo "hint: choose it by \`EMAJ_PG_BINDIR=/usr/lib/postgresql/17/bin ./test.sh\`" >&2
        exit 64
    fi
done

tools/provision.sh
. tools/rust.sh
use_rust
exec cargo test --workspace --locked --no-fail-fast "$@"
