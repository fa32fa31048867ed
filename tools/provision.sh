#!/usr/bin/env bash
# Installs what building, testing and the demo need, on Debian and Ubuntu: only what is missing, nothing running.
#
#   tools/provision.sh           as root, or as a user who may sudo, or as anybody when nothing is missing
#   tools/provision.sh --fetch   npm and pip too, with which tools/servers.sh fetches servers of other versions
#
# PostgreSQL (server and client programs; no cluster, no service), slapd and ldap-utils (no service), nats-server (no
# service), kcat, a C compiler, curl, git, and Rust for the user who runs this. Quick when nothing is missing. Exit code 1: something is missing and
# could not be installed; what to do is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/rust.sh

say() { printf '%s\n' "$*" >&2; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

# The places where the program looks for a server too (src/cluster/binaries.rs).
have_server() {
    local place places=("${EMAJ_PG_BINDIR:-}")
    if [ -z "${EMAJ_PG_BINDIR:-}" ]; then
        places=(/usr/lib/postgresql/*/bin)
        have pg_config && places+=("$(pg_config --bindir 2>/dev/null || true)")
        IFS=: read -r -a on_path <<<"$PATH"
        places+=("${on_path[@]}")
    fi
    for place in "${places[@]}"; do
        [ -x "$place/postgres" ] && [ -x "$place/initdb" ] && return 0
    done
    return 1
}

# Fills `missing` with the packages to install.
look() {
    missing=()
    have_server || missing+=(postgresql)
    have psql || missing+=(postgresql-client)
    have slapd || missing+=(slapd)
    have ldapsearch || missing+=(ldap-utils)
    have nats-server || missing+=(nats-server)
    have kcat || missing+=(kcat)
    have curl || missing+=(curl ca-certificates)
    have cc || missing+=(build-essential)
    have pkg-config || missing+=(pkg-config)
    have git || missing+=(git)
    if [ "$mode" = --fetch ]; then
        have npm || missing+=(npm)
        python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

may_be_root() {
    [ "$(id -u)" = 0 ] || { have sudo && { sudo -n true 2>/dev/null || { [ -t 0 ] && [ -t 2 ]; }; }; }
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
        apt-get -q -y -o Dpkg::Options::=--force-confold --no-install-recommends "$@" >&2
}

# Keeps packages from starting services while this runs. An administrator's own policy is left alone.
no_services() {
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] && return 0
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
}

# Says whether somebody has clusters here, or had: then Debian's settings are theirs.
any_cluster() {
    compgen -G '/etc/postgresql/*/*' >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

# Debian makes a cluster on port 5432 when it installs the first server, unless it is told not to, before.
no_cluster() {
    local settings=/etc/postgresql-common/createcluster.conf
    apt install postgresql-common
    if grep -Eq '^[#[:space:]]*create_main_cluster' $settings 2>/dev/null; then
        as_root sed -i -E 's/^[#[:space:]]*create_main_cluster.*/create_main_cluster = false/' $settings
    else
        as_root mkdir -p "$(dirname $settings)"
        echo 'create_main_cluster = false' | as_root tee -a $settings >/dev/null
    fi
}

# slapd and nats-server are wanted as programs only. (The tests start their own, on a free port, in a directory of their own.)
no_service() {
    if have systemctl; then
        as_root systemctl disable "$1" >/dev/null 2>&1 || true
    elif have update-rc.d; then
        as_root update-rc.d "$1" disable >/dev/null 2>&1 || true
    fi
}

install_packages() {
    if ! have apt-get; then
        say "error: missing: ${missing[*]} (names of Debian's packages), and this system has no apt-get"
        say "hint: install them in this system's own way, then run this again"
        exit 1
    fi
    if ! may_be_root; then
        say "error: missing: ${missing[*]}; installing them needs root"
        say "hint: have an administrator run these lines, then run this again:"
        case " ${missing[*]} " in
            *" postgresql "*)
                # Before the server, so that its package does not start one on port 5432.
                say "    sudo mkdir -p /etc/postgresql-common"
                say "    echo 'create_main_cluster = false' | sudo tee -a /etc/postgresql-common/createcluster.conf"
                ;;
        esac
        say "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
        exit 1
    fi
    say "installing ${missing[*]}"
    no_services
    apt update
    case " ${missing[*]} " in *" postgresql "*) any_cluster || no_cluster ;; esac
    apt install "${missing[@]}"
    for service in slapd nats-server; do
        case " ${missing[*]} " in *" $service "*) no_service $service ;; esac
    done
    look
    if [ ${#missing[@]} -gt 0 ]; then
        say "error: installed, but still not found: ${missing[*]}"
        exit 1
    fi
}

# Rust goes to the home directory of whoever runs this: rustup from where there is one, else Debian's, else from the net.
install_rust() {
    say "installing Rust $(rust_wanted) or newer for $(id -un)"
    if ! have rustup && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/rustup" ] && may_be_root \
        && [ -n "$(apt-cache madison rustup 2>/dev/null)" ]; then
        apt install rustup || true
    fi
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    if have rustup; then
        rustup toolchain install stable --profile minimal --component rustfmt,clippy >&2 \
            && rustup default stable >&2 || true
    else
        curl --proto '=https' --tlsv1.2 -sSf --connect-timeout 20 https://sh.rustup.rs 2>/dev/null \
            | sh -s -- -y --no-modify-path --profile minimal --component rustfmt,clippy >&2 || true
    fi
    use_rust && return 0
    say "error: no Rust $(rust_wanted) or newer, and rustup could not install one"
    say "hint: where https://sh.rustup.rs can be reached: curl -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
    say "hint: where root has a toolchain already: sudo cp -rL \"\$(sudo -i rustc --print sysroot)\" /opt/rust"
    say "hint: then run this again; looked for cargo in PATH, ${CARGO_HOME:-$HOME/.cargo}/bin, /usr/local/cargo/bin," \
        "/usr/lib/rust-*/bin, /opt/rust*/bin"
    exit 1
}

mode=${1:-}
if [ -n "$mode" ] && [ "$mode" != --fetch ]; then
    say "error: unknown argument \`$mode\`"
    say "hint: \`tools/provision.sh\` takes none but \`--fetch\`"
    exit 64
fi
if [ -n "${EMAJ_PG_BINDIR:-}" ] && ! have_server; then
    say "error: no \`postgres\` and \`initdb\` in \`$EMAJ_PG_BINDIR\` (EMAJ_PG_BINDIR)"
    say "hint: name the directory that holds them, or unset it to have PostgreSQL found or installed"
    exit 1
fi
look
[ ${#missing[@]} -eq 0 ] || install_packages
use_rust || install_rust
