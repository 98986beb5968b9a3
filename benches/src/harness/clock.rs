//! Clocks and the state of the machine.

use std::fs;

use rustix::time::{ClockId, Timespec, clock_gettime};

fn nanos(id: ClockId) -> f64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(id);
    tv_sec as f64 * 1e9 + tv_nsec as f64
}

/// Nanoseconds of CPU this thread has used.
pub fn thread_cpu() -> f64 {
    nanos(ClockId::ThreadCPUTime)
}

/// Nanoseconds of CPU all threads of this process have used.
pub fn process_cpu() -> f64 {
    nanos(ClockId::ProcessCPUTime)
}

/// Nanoseconds on a clock that only goes forward.
pub fn wall() -> f64 {
    nanos(ClockId::Monotonic)
}

/// The load average over the last minute; zero where the system does not tell.
pub fn load_avg() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(0.0)
}

/// Processor time since the start of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Ticks {
    all: f64,
    stolen: f64,
}

impl Ticks {
    /// As of now; zeros where the system does not tell.
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest time is part of user time.
        let ticks: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        Self {
            all: ticks.iter().sum(),
            stolen: ticks.get(7).copied().unwrap_or(0.0),
        }
    }

    /// The share of processor time since then that the host gave to others, in percent.
    pub fn steal_since(self) -> f64 {
        let now = Self::now();
        100.0 * (now.stolen - self.stolen) / (now.all - self.all).max(1.0)
    }
}
