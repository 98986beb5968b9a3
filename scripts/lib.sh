# Shared by scripts/test, scripts/servers and .ci/run; sourced, never run. Works with bash 3.2.
# shellcheck shell=bash disable=SC2034

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export ROOT

# A relative target folder means relative to the caller, who may be anywhere.
case ${CARGO_TARGET_DIR:-} in
"") CARGO_TARGET_DIR=$ROOT/target ;;
/*) ;;
*) CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;;
esac
export CARGO_TARGET_DIR

BOLD='' RED='' GREEN='' YELLOW='' PLAIN=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
    export CARGO_TERM_COLOR=always
fi

# heading TEXT: opens a section, with the seconds since the start.
heading() {
    printf '\n%s== %s%s  [%d s]\n' "$BOLD" "$1" "$PLAIN" "$SECONDS"
}

# die TEXT…: one line each to stderr, and out.
die() {
    printf '%s\n' "$@" >&2
    exit 1
}

MISSING_PACKAGES=''
MISSING_TEXT=''

# need COMMAND PACKAGES WHY: remembers the Debian packages that bring COMMAND, where it is not there.
need() {
    command -v "$1" >/dev/null && return
    MISSING_PACKAGES="$MISSING_PACKAGES $2"
    MISSING_TEXT="$MISSING_TEXT"$'\n'"  $1 ($3)"
}

# install_needs: installs what `need` found missing where that is allowed; says what to do where it is not.
install_needs() {
    [ -n "$MISSING_PACKAGES" ] || return 0
    local sudo='' packages=$MISSING_PACKAGES
    MISSING_PACKAGES=''
    command -v apt-get >/dev/null ||
        die "missing:$MISSING_TEXT" "install them with your system's package manager (on Debian:$packages)"
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null ||
            die "missing:$MISSING_TEXT" "get them with:" "  sudo apt-get install -y$packages"
        sudo='sudo -n'
    fi
    echo "installing$packages"
    $sudo apt-get update -qq || die "apt-get update failed; missing:$MISSING_TEXT"
    # shellcheck disable=SC2086 # a list of packages
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages ||
        die "apt-get install failed; missing:$MISSING_TEXT"
}

# need_rust: a toolchain new enough for this workspace.
need_rust() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        die "missing: Rust $wanted or newer (cargo, rustc)" "get it with rustup, then open a new shell"
    fi
    have=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n%s\n' "$wanted" "${have%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
        die "Rust $have is too old, $wanted or newer is needed" "get it with: rustup update stable"
    fi
}

# need_component COMMAND NAME: a cargo subcommand that rustup brings.
need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null ||
        die "missing: cargo $1" "get it with: rustup component add $2"
    rustup component add "$2"
}
