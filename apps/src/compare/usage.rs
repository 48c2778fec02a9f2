//! What this process has used of the machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Processor time and memory of one process, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// Processor time of all threads, in seconds.
    pub(super) cpu_seconds: f64,
    /// Memory before the measurement, in bytes.
    pub(super) memory_before_bytes: u64,
    /// The most memory up to its end, in bytes.
    pub(super) memory_peak_bytes: u64,
}

/// The state before a measurement.
pub(super) struct Before {
    cpu: Duration,
    memory_bytes: u64,
}

impl Before {
    /// Now.
    pub(super) fn now() -> Before {
        Before {
            cpu: processor_time(),
            memory_bytes: memory_bytes("VmRSS:"),
        }
    }

    /// What has been used since.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            cpu_seconds: (processor_time() - self.cpu).as_secs_f64(),
            memory_before_bytes: self.memory_bytes,
            memory_peak_bytes: memory_bytes("VmHWM:"),
        }
    }
}

impl std::ops::Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            memory_before_bytes: self.memory_before_bytes + other.memory_before_bytes,
            memory_peak_bytes: self.memory_peak_bytes + other.memory_peak_bytes,
        }
    }
}

/// Of all threads, those that have ended included.
fn processor_time() -> Duration {
    reading(ClockId::ProcessCPUTime)
}

/// The system's monotonic clock, which is the same for all processes, in nanoseconds.
pub(super) fn monotonic_ns() -> u64 {
    u64::try_from(reading(ClockId::Monotonic).as_nanos()).unwrap_or(u64::MAX)
}

fn reading(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

/// A line of `/proc/self/status`; 0 on systems that have none.
fn memory_bytes(label: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(label));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_seen() {
        let before = Before::now();
        let grown = vec![1u8; 64 << 20];
        assert_eq!(
            grown.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            64 << 20
        );
        let usage = before.usage();
        assert!(usage.cpu_seconds > 0.0);
        if cfg!(target_os = "linux") {
            assert!(usage.memory_peak_bytes >= 64 << 20, "{usage:?}");
        }
    }
}
