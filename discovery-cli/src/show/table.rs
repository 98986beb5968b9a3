//! Tables for people.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use discovery::Status;

/// A table without lines; nothing at all where it would have no rows.
pub(super) fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if !heads.is_empty() {
        table.set_header(heads.to_vec());
    }
    let clean = |row: Vec<String>| {
        row.iter()
            .map(|cell| clean(cell).into_owned())
            .collect::<Vec<_>>()
    };
    table.add_rows(rows.into_iter().map(clean));
    if table.is_empty() {
        return String::new();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// A status in its colour; the word says it all the same.
pub(super) fn colored(status: Status) -> String {
    let color = match status {
        Status::Passing => AnsiColor::Green,
        Status::Warning | Status::Starting => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    };
    let style = Style::new().fg_color(Some(color.into()));
    format!("{style}{status}{style:#}")
}

/// The text without what could do anything to a terminal: what a registry says is not ours. Colours may stay.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && c != '\n') {
        return text.into();
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = color(rest);
        if length > 0 {
            cleaned.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        match c {
            '\t' => cleaned.push(' '),
            c if c.is_control() && c != '\n' => cleaned.push('\u{fffd}'),
            c => cleaned.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    cleaned.into()
}

/// The length of the escape for a colour that a text starts with; zero where it does not.
fn color(text: &str) -> usize {
    let Some(codes) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    let digits = codes
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b';')
        .count();
    if codes.as_bytes().get(digits) == Some(&b'm') {
        2 + digits + 1
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_registry_says_reaches_the_terminal_as_a_command() {
        for (text, cleaned) in [
            ("plain\ntext", "plain\ntext"),
            ("\u{1b}[32mgreen\u{1b}[0m", "\u{1b}[32mgreen\u{1b}[0m"),
            (
                "\u{1b}[2J\u{1b}]0;title\u{7}",
                "\u{fffd}[2J\u{fffd}]0;title\u{fffd}",
            ),
            ("a\tb\rc", "a b\u{fffd}c"),
            ("ä\u{9b}5n", "ä\u{fffd}5n"),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }
}
