//! What a run found: one JSON line for each cell, one table, and how the goals stand.

use std::fmt::Write;

use serde::Serialize;

use super::clock;

/// A median needs at least so many samples.
const ENOUGH: usize = 3;

/// The samples of one contender at one size and number of threads, one for each round.
#[derive(Debug)]
pub struct Cell {
    contender: &'static str,
    n: usize,
    threads: usize,
    /// A sample, or nothing where the round could not be measured.
    pub samples: Vec<Option<f64>>,
}

impl Cell {
    /// A cell without samples.
    pub fn new(contender: &'static str, n: usize, threads: usize) -> Self {
        Self {
            contender,
            n,
            threads,
            samples: Vec::new(),
        }
    }

    fn min(&self) -> f64 {
        self.samples
            .iter()
            .flatten()
            .copied()
            .fold(f64::INFINITY, f64::min)
    }
}

/// One cell as it is written to the file.
#[derive(Debug, Serialize)]
struct Line {
    metric: &'static str,
    unit: &'static str,
    contender: &'static str,
    n: usize,
    threads: usize,
    /// Nothing when it was not measurable.
    median: Option<f64>,
    min: Option<f64>,
    ratio_to_floor: Option<f64>,
    load_avg: f64,
    steal: f64,
}

/// All cells of one metric, measured together.
#[derive(Debug)]
pub struct Table {
    metric: &'static str,
    unit: &'static str,
    floor: &'static str,
    cells: Vec<Cell>,
    load_avg: f64,
    steal: f64,
}

/// Names a cell: contender, size, threads.
pub type At = (&'static str, usize, usize);

impl Table {
    /// The table of cells measured since `ticks`.
    pub fn new(
        metric: &'static str,
        unit: &'static str,
        floor: &'static str,
        cells: Vec<Cell>,
        ticks: clock::Ticks,
    ) -> Self {
        Self {
            metric,
            unit,
            floor,
            cells,
            load_avg: clock::load_avg(),
            steal: ticks.steal_since(),
        }
    }

    /// The median over all rounds of one cell's sample divided by the other's; nothing when too few rounds have both.
    pub fn ratio(&self, cell: At, to: At) -> Option<f64> {
        let ratios = self.cell(cell)?.samples.iter().zip(&self.cell(to)?.samples);
        median(ratios.filter_map(|(a, b)| Some((*a)? / (*b)?)).collect())
    }

    fn cell(&self, at: At) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| (cell.contender, cell.n, cell.threads) == at)
    }

    /// The goal that `cell` costs no more than `at_most` times what `to` costs.
    pub fn goal(&self, id: &'static str, what: String, at_most: f64, cell: At, to: At) -> Goal {
        let value = self.ratio(cell, to);
        let min = |at| self.cell(at).map(Cell::min);
        Goal {
            id,
            what,
            at_most,
            value,
            of_minima: value.and_then(|_| Some(min(cell)? / min(to)?)),
            met: value.map(|value| value <= at_most),
        }
    }

    fn lines(&self) -> impl Iterator<Item = Line> {
        self.cells.iter().map(|cell| {
            let samples: Vec<f64> = cell.samples.iter().copied().flatten().collect();
            let median = median(samples);
            let at = (cell.contender, cell.n, cell.threads);
            Line {
                metric: self.metric,
                unit: self.unit,
                contender: cell.contender,
                n: cell.n,
                threads: cell.threads,
                median,
                min: median.map(|_| cell.min()),
                ratio_to_floor: self.ratio(at, (self.floor, cell.n, cell.threads)),
                load_avg: self.load_avg,
                steal: self.steal,
            }
        })
    }
}

/// A pass line: a ratio of two cells of one run.
#[derive(Debug, Serialize)]
pub struct Goal {
    #[serde(rename = "goal")]
    id: &'static str,
    what: String,
    at_most: f64,
    /// The median of the ratios of all rounds; nothing when it was not measurable.
    value: Option<f64>,
    /// The ratio of the best samples: what a quiet machine would show.
    of_minima: Option<f64>,
    met: Option<bool>,
}

/// Everything one run found.
#[derive(Debug, Default)]
pub struct Report {
    tables: Vec<Table>,
    goals: Vec<Goal>,
    /// What could not run, and why.
    not_run: Vec<(&'static str, String)>,
}

impl Report {
    /// Adds a table.
    pub fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds goals.
    pub fn goals(&mut self, goals: impl IntoIterator<Item = Goal>) {
        self.goals.extend(goals);
    }

    /// Notes that something could not run.
    pub fn not_run(&mut self, what: &'static str, why: String) {
        self.not_run.push((what, why));
    }

    /// Whether this was measured, as far as it was asked for.
    pub fn has_run(&self, what: &str) -> bool {
        self.not_run.iter().all(|(other, _)| *other != what)
    }

    /// One JSON line for each cell, then one for each goal.
    pub fn json_lines(&self) -> serde_json::Result<String> {
        let mut text = String::new();
        for line in self.tables.iter().flat_map(Table::lines) {
            text.push_str(&serde_json::to_string(&line)?);
            text.push('\n');
        }
        for goal in &self.goals {
            text.push_str(&serde_json::to_string(goal)?);
            text.push('\n');
        }
        Ok(text)
    }

    /// The table for people.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<12} {:<24} {:>6} {:>3}  {:>11} {:>11}    {:>8}",
            "metric", "contender", "n", "thr", "median", "min", "x floor"
        );
        for table in &self.tables {
            for line in table.lines() {
                let numbers = match (line.median, line.min) {
                    (Some(median), Some(min)) => format!("{median:>11.2} {min:>11.2} {}", line.unit),
                    _ => format!("{:>26}", "not measurable now"),
                };
                let ratio = line
                    .ratio_to_floor
                    .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
                let _ = writeln!(
                    text,
                    "{:<12} {:<24} {:>6} {:>3}  {numbers} {ratio:>8}",
                    line.metric, line.contender, line.n, line.threads
                );
            }
            let _ = writeln!(
                text,
                "{:<12} load {:.2}, steal {:.1} %\n",
                table.metric, table.load_avg, table.steal
            );
        }
        let _ = writeln!(
            text,
            "{:<8} {:<46} {:>9} {:>9}    {:<8}",
            "goal", "ratio", "median", "of minima", "at most"
        );
        for goal in &self.goals {
            let number =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
            let verdict = match goal.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "not measurable now",
            };
            let (value, of_minima) = (number(goal.value), number(goal.of_minima));
            let _ = writeln!(
                text,
                "{:<8} {:<46} {value:>9} {of_minima:>9} <= {:<8.4} {verdict}",
                goal.id, goal.what, goal.at_most
            );
        }
        for (what, why) in &self.not_run {
            let _ = writeln!(text, "not run: {what} ({why})");
        }
        text
    }
}

/// The median, where there are enough.
pub fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_unstable_by(f64::total_cmp);
    let middle = samples.len() / 2;
    if samples.len() < ENOUGH {
        None
    } else if samples.len() % 2 == 1 {
        Some(samples[middle])
    } else {
        Some(f64::midpoint(samples[middle - 1], samples[middle]))
    }
}
