# Finding Rust; sourced by the other scripts (it changes PATH).
#
# `use_rust` puts a cargo on PATH that is new enough for Cargo.toml, or returns 1 and says nothing.

# Prints the oldest Rust that Cargo.toml allows, as in "1.95".
rust_wanted() {
    sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml
}

# Says whether the cargo on PATH $1 runs and is new enough, with a compiler beside it.
rust_fits() {
    local version
    version=$(PATH=$1 cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
    [ -n "$version" ] || return 1
    [ "$(printf '%s\n' "$(rust_wanted)" "$version" | sort -V | head -n 1)" = "$(rust_wanted)" ] || return 1
    PATH=$1 rustc --version >/dev/null 2>&1
}

use_rust() {
    local place
    rust_fits "$PATH" && return 0
    # The user's own, that of Docker's images, Ubuntu's versioned packages, a toolchain that an administrator unpacked.
    for place in "${CARGO_HOME:-$HOME/.cargo}/bin" /usr/local/cargo/bin /usr/lib/rust-*/bin /opt/rust*/bin; do
        if [ -x "$place/cargo" ] && rust_fits "$place:$PATH"; then
            export PATH="$place:$PATH"
            return 0
        fi
    done
    return 1
}
