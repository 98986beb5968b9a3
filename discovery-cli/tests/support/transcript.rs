//! Pages that show commands and what they print: run, and compared.
//!
//! In a block ```` ```console ````, a line after `$ ` is a command, which goes on while lines end in `\`. What follows is its
//! standard output, then its standard error after `2> `, then its exit code where it is not zero. With the variable
//! `UPDATE_TRANSCRIPTS`, pages are written anew.

use std::{env, fmt::Write as _, fs, path::Path};

use super::{Ran, Stage};

/// Runs every command of a page, one after the other.
pub(crate) fn check(stage: &Stage, page: &Path) {
    let text = fs::read_to_string(page).unwrap();
    let mut written = String::new();
    let mut lines = text.lines().peekable();
    let (mut inside, mut commands) = (false, 0);
    while let Some(line) = lines.next() {
        writeln!(written, "{line}").unwrap();
        inside = match line {
            "```console" => true,
            "```" => false,
            _ => inside,
        };
        let Some(command) = line.strip_prefix("$ ").filter(|_| inside) else {
            continue;
        };
        let mut command = command.to_owned();
        while command.ends_with('\\') {
            let more = lines.next().unwrap();
            writeln!(written, "{more}").unwrap();
            command.truncate(command.len() - 1);
            command.push_str(more);
        }
        while lines
            .peek()
            .is_some_and(|line| !line.starts_with("$ ") && *line != "```")
        {
            lines.next();
        }
        let ran = Ran::of(&stage.shell(&command).output().unwrap());
        written.push_str(&shown(&ran, stage));
        commands += 1;
    }
    assert!(commands > 0, "{}: no command", page.display());
    if env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::write(page, written).unwrap();
        return;
    }
    for (at, (found, wanted)) in written.lines().zip(text.lines()).enumerate() {
        assert_eq!(
            found,
            wanted,
            "{}:{}: what the program prints, and what the page says; UPDATE_TRANSCRIPTS=1 writes it anew",
            page.display(),
            at + 1
        );
    }
    assert_eq!(
        written.lines().count(),
        text.lines().count(),
        "{}",
        page.display()
    );
}

fn shown(ran: &Ran, stage: &Stage) -> String {
    let mut shown = String::new();
    for line in ran.out.lines() {
        writeln!(shown, "{line}").unwrap();
    }
    for line in ran.err.lines() {
        writeln!(shown, "2> {line}").unwrap();
    }
    match ran.code {
        Some(0) => {}
        Some(code) => writeln!(shown, "[exit code {code}]").unwrap(),
        None => writeln!(shown, "[killed]").unwrap(),
    }
    steady(&shown.replace(&stage.root().display().to_string(), "~"))
}

/// The text without what is different each time: times, durations, process ids.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    for line in text.lines() {
        let line = line
            .split_inclusive([' ', '(', ')', '"', ',', ':'])
            .map(word)
            .collect::<String>();
        let line = keyed(&keyed(&line, "\"latency_ms: "), "\"millis: ");
        let line = keyed(&keyed(&line, "\"latency_ms\": "), "\"millis\": ");
        let line = keyed(&keyed(&line, "\"millis\":"), "SQLite ");
        let line = versioned(&line);
        writeln!(steady, "{}", digits(&stamped(&line), "-debug-")).unwrap();
    }
    steady
}

/// A duration is always the same one.
fn word(word: &str) -> String {
    let bare = word.trim_end_matches([' ', '(', ')', '"', ',', ':']);
    let number = bare.trim_end_matches(['n', 'µ', 'm', 's']);
    let unit = &bare[number.len()..];
    if matches!(unit, "ns" | "µs" | "ms" | "s") && number.contains('.') && number.parse::<f64>().is_ok() {
        return format!("1.0ms{}", &word[bare.len()..]);
    }
    word.to_owned()
}

/// What follows a key is always the same number.
fn keyed(line: &str, key: &str) -> String {
    let Some((before, after)) = line.split_once(key) else {
        return line.to_owned();
    };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | '-'));
    if rest.len() == after.len() {
        return line.to_owned();
    }
    format!("{before}{key}1.0{rest}")
}

/// Digits after a text are always the same.
fn digits(line: &str, after: &str) -> String {
    let mut parts = line.split(after);
    let mut steady = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        write!(steady, "{after}1{rest}").unwrap();
    }
    steady
}

/// The history of a file, in versions, is always the same one.
fn versioned(line: &str) -> String {
    const LENGTH: usize = 16;
    let is = |word: &&str| word.len() == LENGTH && word.bytes().all(|b| b.is_ascii_hexdigit());
    let history = line.split([' ', '"', ':']).find(is);
    history.map_or_else(
        || line.to_owned(),
        |history| line.replace(history, "0123456789abcdef"),
    )
}

/// A time is always the same one.
fn stamped(line: &str) -> String {
    const STAMP: &str = "0000-00-00T00:00:00.000Z";
    let is = |part: &str| {
        part.bytes().zip(STAMP.bytes()).all(|(found, wanted)| {
            if wanted == b'0' {
                found.is_ascii_digit()
            } else {
                found == wanted
            }
        })
    };
    let mut steady = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        match rest.get(..STAMP.len()) {
            Some(part) if is(part) => {
                steady.push_str("2026-01-15T10:30:00.000Z");
                rest = &rest[STAMP.len()..];
            }
            _ => {
                steady.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    steady
}
