# Consul: old from Debian, new built with Go; sourced by scripts/servers.
# shellcheck shell=bash

CONSUL_SUITE=bullseye
CONSUL_MODULE=$SOURCES/consul

consul_version() {
    "$1" version 2>/dev/null | sed -n 's/^Consul v\([0-9][0-9.]*\).*/\1/p'
}

consul_fits() {
    case $1 in
    old) older "$2" 1.9 ;;
    new) ! older "$2" 1.20 ;;
    esac
}

consul_folder() {
    case $1 in
    old) echo "$CACHE/consul-$CONSUL_SUITE-$MACHINE" ;;
    new) echo "$CACHE/consul-$(go_version "$CONSUL_MODULE" github.com/hashicorp/consul)-$MACHINE" ;;
    esac
}

consul_places() {
    command -v consul || true
    echo "$(consul_folder "$1")/consul"
}

consul_install() {
    local instead version
    case $1 in
    old)
        instead="put a Consul before 1.9 on PATH, or its path into DISCOVERY_CONSUL_OLD"
        unpack_of_suite "$CONSUL_SUITE" 'Consul 1.8' "$instead" consul
        cp "$WORK/unpacked/usr/bin/consul" "$WORK/unpacked/usr/share/doc/consul/copyright" "$WORK/out/"
        ;;
    new)
        instead="put a Consul from 1.20 on PATH, or its path into DISCOVERY_CONSUL_NEW"
        version=$(go_version "$CONSUL_MODULE" github.com/hashicorp/consul)
        go_build "Consul $version" "$instead" "$CONSUL_MODULE" '' consul
        go_licence "$CONSUL_MODULE" github.com/hashicorp/consul copyright
        ;;
    esac
    place "$(consul_folder "$1")"
}
