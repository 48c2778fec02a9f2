//! The machine that the numbers are from.

use serde::Serialize;

/// What one must know of it to read the numbers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) processor: String,
    /// Name, kernel and architecture.
    pub(super) system: String,
    pub(super) memory_bytes: u64,
}

impl Machine {
    /// This one; what it does not tell is `unknown`.
    pub(super) fn this() -> Machine {
        let cores = std::thread::available_parallelism();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            cores: cores.map_or(1, usize::from),
            processor: field("/proc/cpuinfo", "model name"),
            system: format!(
                "{} {} {}",
                std::env::consts::OS,
                kernel.trim(),
                std::env::consts::ARCH
            ),
            memory_bytes: memory_bytes(),
        }
    }
}

fn memory_bytes() -> u64 {
    let total = field("/proc/meminfo", "MemTotal");
    let kib = total
        .split(' ')
        .next()
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// What follows a label in a file of lines like `label : text`.
fn field(path: &str, label: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.find(|(name, _)| name.trim() == label);
    found.map_or_else(|| "unknown".into(), |(_, text)| text.trim().to_string())
}
