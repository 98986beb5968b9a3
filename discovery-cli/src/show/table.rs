//! Tables for people.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use discovery::Status;

/// A table without lines; `nothing` where it would have no rows.
pub(super) fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>, nothing: &str) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if !heads.is_empty() {
        table.set_header(heads.to_vec());
    }
    table.add_rows(rows);
    if table.is_empty() {
        return nothing.to_owned();
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
