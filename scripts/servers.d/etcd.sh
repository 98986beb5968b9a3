# etcd with its etcdctl beside it, old and new, both from Debian; sourced by scripts/servers.
# shellcheck shell=bash

# The suite of an age.
etcd_suite() {
    case $1 in
    old) echo bookworm ;;
    new) echo trixie ;;
    esac
}

# One without an etcdctl beside it is of no use here.
etcd_version() {
    "$(dirname "$1")/etcdctl" version >/dev/null 2>&1 || return 0
    "$1" --version 2>/dev/null | sed -n 's/^etcd Version: \([0-9][0-9.]*\).*/\1/p'
}

etcd_fits() {
    case $1 in
    old) ! older "$2" 3.4 && older "$2" 3.5 ;;
    new) ! older "$2" 3.5.13 ;;
    esac
}

etcd_folder() {
    echo "$CACHE/etcd-$(etcd_suite "$1")-$MACHINE"
}

etcd_places() {
    command -v etcd || true
    echo "$(etcd_folder "$1")/etcd"
}

etcd_install() {
    local instead what
    case $1 in
    old)
        what='etcd 3.4'
        instead='put an etcd 3.4 and its etcdctl on PATH, or its path into DISCOVERY_ETCD_OLD'
        ;;
    new)
        what='etcd 3.5'
        instead='put an etcd from 3.5.13 and its etcdctl on PATH, or its path into DISCOVERY_ETCD_NEW'
        ;;
    esac
    unpack_of_suite "$(etcd_suite "$1")" "$what" "$instead" etcd-server etcd-client
    cp "$WORK/unpacked/usr/bin/etcd" "$WORK/unpacked/usr/bin/etcdctl" \
        "$WORK/unpacked/usr/share/doc/etcd-server/copyright" "$WORK/out/"
    place "$(etcd_folder "$1")"
}
