//! The configuration of each server, relative to its place.

use std::fmt::Write as _;

use super::{DATA, TsigKey, Zone};

/// Additional records are given (`minimal-responses no`), and nobody outside is told or asked anything.
pub(super) fn bind(port: u16, zones: &[Zone], key: Option<&TsigKey>) -> String {
    let mut text = format!(
        r#"options {{
    directory "{DATA}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    notify no;
    empty-zones-enable no;
    dnssec-validation no;
    minimal-responses no;
    pid-file none;
    session-keyfile "session.key";
}};
controls {{ }};
"#
    );
    let mut update = String::new();
    if let Some(TsigKey { name, secret }) = key {
        let secret = secret.expose();
        let _ = writeln!(
            text,
            r#"key "{name}" {{ algorithm hmac-sha256; secret "{secret}"; }};"#
        );
        update = format!(r#" allow-update {{ key "{name}"; }};"#);
    }
    for zone in zones {
        let (name, file) = (&zone.name, zone.file());
        let _ = writeln!(
            text,
            r#"zone "{name}" {{ type primary; file "{file}";{update} }};"#
        );
    }
    text
}

/// Updates stay in the journal, which is applied over the zone file.
pub(super) fn knot(port: u16, zones: &[Zone], key: Option<&TsigKey>) -> String {
    let mut text = format!(
        "server:
    listen: 127.0.0.1@{port}
    rundir: {DATA}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: {DATA}
"
    );
    let mut acl = "";
    if let Some(TsigKey { name, secret }) = key {
        let secret = secret.expose();
        let _ = write!(
            text,
            "key:
  - id: {name}
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: update
    key: {name}
    action: update
"
        );
        acl = "    acl: update\n";
    }
    text += "zone:\n";
    for zone in zones {
        let (name, file) = (&zone.name, zone.file());
        let _ = write!(
            text,
            "  - domain: {name}
    storage: {DATA}
    file: {file}
    zonefile-sync: -1
{acl}"
        );
    }
    text
}
