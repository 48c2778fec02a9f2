//! A terminal that is closed ends a comparison as Ctrl-C does, so that no file is left behind.

use mutirao::StopHandle;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// Stops at SIGHUP, unless whoever started us wants it ignored (`nohup`).
pub(super) fn stop_at_hangup(stop: StopHandle) -> Result<(), Exit> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if ignores(&status, SIGHUP) {
        return Ok(());
    }
    let signals = Signals::new([SIGHUP]);
    let mut signals = signals
        .map_err(|error| Exit::Environment(format!("signals cannot be watched: {error}")))?;
    std::thread::spawn(move || signals.forever().for_each(|_| stop.stop()));
    Ok(())
}

/// Whether a process of this status, as the system tells it, ignores a signal; it does if that is not known.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_status() {
        let status = |mask: &str| format!("SigBlk:\t0000000000000000\nSigIgn:\t{mask}\n");
        assert!(ignores(&status("0000000000000001"), SIGHUP));
        assert!(ignores(&status("0000000000001001"), SIGHUP));
        assert!(!ignores(&status("0000000000001000"), SIGHUP));
        assert!(ignores("", SIGHUP));
    }
}
