# What the kinds of servers share; sourced by scripts/servers, never run. Works with bash 3.2.
# shellcheck shell=bash disable=SC2034

CACHE=${DISCOVERY_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/system-control-discovery}/servers
case $CACHE in /*) ;; *) CACHE=$PWD/$CACHE ;; esac
MACHINE=$(uname -s -m | tr 'A-Z ' 'a-z-')
SOURCES=$ROOT/discovery-testkit/servers

note() {
    echo "scripts/servers: $*" >&2
}

# older VERSION THAN
older() {
    [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# === one job at a time, seen to be alive ===

WORK=''
TICKER=''

cleanup() {
    if [ -n "$TICKER" ]; then kill "$TICKER" 2>/dev/null || true; fi
    if [ -n "$WORK" ]; then rm -rf "$WORK"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# busy WHAT COMMAND…: runs it, its output in a log, with a line now and then; shows the end of the log where it fails.
busy() {
    local what=$1 started=$SECONDS status=0
    shift
    note "$what"
    # Its sleep holds nothing that someone may wait for; it ends with this script, however that ends.
    (
        trap - EXIT
        while sleep 15 2>/dev/null 9>&- && kill -0 $$ 2>/dev/null; do note "$what: $((SECONDS - started)) s so far"; done
    ) >/dev/null &
    TICKER=$!
    "$@" >"$WORK/log" 2>&1 || status=$?
    kill "$TICKER" 2>/dev/null || true
    wait "$TICKER" 2>/dev/null || true
    TICKER=''
    if [ "$status" -ne 0 ]; then
        tail -n 30 "$WORK/log" >&2
        return "$status"
    fi
    note "$what: done in $((SECONDS - started)) s"
}

# enter_cache: alone from here to the end of the script. Without flock two runs do the work twice, which harms nothing:
# what is done is moved into place whole.
enter_cache() {
    [ -z "$WORK" ] || return 0
    mkdir -p "$CACHE" || die "cannot write to $CACHE; set DISCOVERY_CACHE to a folder that can be written"
    if command -v flock >/dev/null; then
        exec 9>"$CACHE/lock"
        flock -n 9 || {
            note 'another run is installing; waiting for it (at most 30 minutes)'
            flock -w 1800 9 || die "$CACHE/lock is still held after 30 minutes; is a run stuck?"
        }
    fi
    WORK=$(mktemp -d "$CACHE/work.XXXXXX")
}

# place FOLDER: moves what $WORK/out holds to where it is looked for.
place() {
    rm -rf "$1"
    mv "$WORK/out" "$1"
}

# === Debian packages, unpacked and never installed ===

# The first main archive of Debian that apt of this machine is set up with.
debian_mirror() {
    # shellcheck disable=SC2016 # apt fills it in
    apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 'Created-By: Packages' | head -n 1
}

# apt_conf WHAT INSTEAD: a configuration, lists and cache of its own in $WORK/apt: the system's stay as they are, and apt
# checks signatures as ever.
apt_conf() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        die "missing: $1" "it is unpacked from Debian's package, which needs apt-get and dpkg-deb; or $2"
    fi
    rm -rf "$WORK/apt" "$WORK/unpacked" "$WORK/out"
    mkdir -p "$WORK/apt/lists/partial" "$WORK/apt/cache/archives/partial" "$WORK/unpacked" "$WORK/out"
    cat >"$WORK/apt/conf" <<END
Dir::State::lists "$WORK/apt/lists";
Dir::Cache "$WORK/apt/cache";
Debug::NoLocking "true";
APT::Sandbox::User "root"; // the cache is its owner's: apt's own user may not read it
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
END
}

# unpack_of_suite SUITE WHAT INSTEAD PACKAGE…: the packages alone, of a suite that need not be the system's, unpacked to
# $WORK/unpacked.
unpack_of_suite() {
    local suite=$1 what=$2 instead=$3 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed='' package apt
    shift 3
    apt_conf "$what" "$instead"
    mirror=$(debian_mirror) || true
    [ -n "$mirror" ] ||
        die "missing: $what" "apt knows no Debian mirror here (has apt-get update been run?); or $instead"
    if [ -r "$keyring" ]; then signed="Signed-By: $keyring"; fi
    mkdir -p "$WORK/apt/sources"
    cat >"$WORK/apt/sources/suite.sources" <<END
Types: deb
URIs: $mirror
Suites: $suite
Components: main
$signed
END
    cat >>"$WORK/apt/conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$WORK/apt/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
END
    apt=(apt-get -c "$WORK/apt/conf")
    busy "reading the list of Debian $suite" "${apt[@]}" update --error-on=any ||
        die "missing: $what" "Debian's mirror does not give the suite $suite (see above); or $instead"
    for package in "$@"; do
        (cd "$WORK/apt/cache/archives" &&
            busy "downloading $package of Debian $suite" "${apt[@]}" download "$package/$suite") ||
            die "missing: $what" "the package $package cannot be downloaded (see above); or $instead"
    done
    unpack_archives
}

# unpack_of_system WHAT INSTEAD PACKAGE: the package of the system's own suite and all that it needs and the system has
# not, unpacked to $WORK/unpacked.
unpack_of_system() {
    local what=$1 instead=$2 package=$3 apt
    apt_conf "$what" "$instead"
    apt=(apt-get -c "$WORK/apt/conf")
    busy "reading the system's package lists" "${apt[@]}" update ||
        die "missing: $what" "the package lists cannot be read (see above); or $instead"
    busy "downloading $package and what it needs" "${apt[@]}" install --reinstall --download-only \
        --no-install-recommends -y "$package" ||
        die "missing: $what" "the package $package cannot be downloaded (see above); or $instead"
    unpack_archives
}

unpack_archives() {
    # shellcheck disable=SC2016 # the inner shell's
    busy 'unpacking' sh -c 'cd "$1" && for archive in *.deb; do dpkg-deb -x "$archive" "$2" || exit; done' \
        sh "$WORK/apt/cache/archives" "$WORK/unpacked" || die 'a package is broken'
}

# === Go modules ===

# go_build WHAT INSTEAD MODULE LDFLAGS OUT: builds the module in this folder to $WORK/out/OUT, with the Go that is here:
# none is downloaded.
go_build() {
    local what=$1 instead=$2 module=$3 ldflags=$4 out=$5 wanted have
    wanted=$(sed -n 's/^go //p' "$module/go.mod")
    have=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//') || true
    if [ -z "$have" ] || older "$have" "$wanted"; then
        die "missing: Go $wanted or newer, to build $what (found: ${have:-none})" \
            "install Go, then open a new shell; or $instead"
    fi
    rm -rf "$WORK/out"
    mkdir "$WORK/out"
    busy "building $what with Go $have (some minutes, once)" \
        env GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 GOWORK=off \
        nice -n 15 go build -C "$module" -trimpath -buildvcs=false -ldflags "-s -w $ldflags" -o "$WORK/out/$out" . ||
        die "missing: $what" "it could not be built (see above); or $instead"
}

# go_licence MODULE IMPORT FILE: the licence of a module beside what was built of it.
go_licence() {
    local folder
    folder=$(GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off go list -C "$1" -m -f '{{.Dir}}' "$2") || return 0
    if [ -r "$folder/LICENSE" ]; then cp "$folder/LICENSE" "$WORK/out/$3"; fi
}

# The version of a module that go.mod requires.
go_version() {
    sed -n "s|^[[:space:]]*$2 v||p" "$1/go.mod" | head -n 1
}
