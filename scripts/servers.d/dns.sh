# BIND and Knot, from the system's own Debian packages, with the libraries that the system has not; sourced by
# scripts/servers.
# shellcheck shell=bash

bind_version() {
    "$1" -v 2>/dev/null | sed -n 's/^BIND \([0-9][0-9.]*\).*/\1/p'
}

bind_fits() {
    ! older "$2" 9.16
}

bind_places() {
    command -v named || echo /usr/sbin/named
    echo "$CACHE/bind-$MACHINE/named"
}

bind_install() {
    dns_install bind BIND bind9 named
}

knot_version() {
    "$1" --version 2>/dev/null | sed -n 's/.*Knot DNS).* \([0-9][0-9.]*\)$/\1/p'
}

knot_fits() {
    ! older "$2" 3.0
}

knot_places() {
    command -v knotd || echo /usr/sbin/knotd
    echo "$CACHE/knot-$MACHINE/knotd"
}

knot_install() {
    dns_install knot Knot knot knotd
}

# dns_install KIND WHAT PACKAGE PROGRAM: the program is started by a line of shell that tells it where its libraries are.
dns_install() {
    local file
    unpack_of_system "$2" "install the package $3" "$3"
    mkdir -p "$WORK/out/sbin" "$WORK/out/lib" "$WORK/out/copyright"
    cp "$WORK/unpacked/usr/sbin/$4" "$WORK/out/sbin/"
    find "$WORK/unpacked" \( -name 'lib*.so' -o -name 'lib*.so.*' \) -exec cp -P {} "$WORK/out/lib/" \;
    for file in "$WORK"/unpacked/usr/share/doc/*/copyright; do
        cp "$file" "$WORK/out/copyright/$(basename "$(dirname "$file")")"
    done
    cat >"$WORK/out/$4" <<END
#!/bin/sh
folder=\$(dirname "\$0")
LD_LIBRARY_PATH=\$folder/lib exec "\$folder/sbin/$4" "\$@"
END
    chmod +x "$WORK/out/$4"
    place "$CACHE/$1-$MACHINE"
}
