//! The configuration of each server, relative to its place.

use std::{fmt::Write as _, net::SocketAddr};

use super::{DATA, Identity, TsigKey, Zone};

/// Additional records are given (`minimal-responses no`), sets may be large (`max-records-per-type`), and nobody outside is told
/// or asked anything.
pub(super) fn bind(
    port: u16,
    zones: &[Zone],
    key: Option<&TsigKey>,
    tls: Option<(SocketAddr, &Identity)>,
) -> String {
    let (mut text, mut secure) = (String::new(), String::new());
    if let Some((at, Identity { cert, key })) = tls {
        let (cert, key) = (cert.display(), key.display());
        let _ = writeln!(text, r#"tls own {{ cert-file "{cert}"; key-file "{key}"; }};"#);
        secure = format!("    listen-on port {} tls own {{ 127.0.0.1; }};\n", at.port());
    }
    let _ = write!(
        text,
        r#"options {{
    directory "{DATA}";
    listen-on port {port} {{ 127.0.0.1; }};
{secure}    listen-on-v6 {{ none; }};
    recursion no;
    notify no;
    empty-zones-enable no;
    dnssec-validation no;
    minimal-responses no;
    max-records-per-type 0;
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
