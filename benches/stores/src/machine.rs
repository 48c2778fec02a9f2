//! What the system says of this process and of folders.

use std::fs;
use std::path::Path;

/// Bytes that this process caused to be written to disk.
pub fn written() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

/// Most memory that this process ever had, in bytes.
pub fn peak_memory() -> u64 {
    field("/proc/self/status", "VmHWM:") * 1024
}

fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Processor time of all threads, in seconds; Linux counts it in hundredths.
pub fn processor() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = text.rsplit(')').next().unwrap_or_default();
    let numbers = behind_name.split_whitespace().skip(11).take(2);
    numbers
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Bytes that a folder takes on disk, holes left out.
pub fn taken(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => taken(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
