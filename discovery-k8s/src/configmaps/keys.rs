//! Keys, and the names that a ConfigMap has them under.

/// A key as a ConfigMap takes it: what is no letter, digit, `-`, `_` or `.` becomes `__` and two hexadecimal digits.
pub(super) fn encode(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for (i, byte) in key.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.';
        let doubled = byte == b'_' && name.ends_with('_');
        let hidden = i == 0 && byte == b'.';
        if plain && !doubled && !hidden {
            name.push(char::from(byte));
        } else {
            name.extend(["__".to_owned(), format!("{byte:02x}")]);
        }
    }
    name
}

/// The key of a name in a ConfigMap: the reverse where that leads back to it, else the name itself.
pub(super) fn decode(name: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(name.len()), name.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'_' && after.first() == Some(&b'_'))
            .then(|| after.get(1..3).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten();
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &rest[4..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    match String::from_utf8(bytes) {
        Ok(key) if encode(&key) == name => key,
        _ => name.to_owned(),
    }
}
