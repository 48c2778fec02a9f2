//! Every change to the disk goes through here, so that a test can stop the process at any of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// More files than this are cheaper to sync all at once, with their file system.
const FEW: usize = 8;

/// Creates an empty file, or empties the one there is.
pub(super) fn create(path: &Path) -> io::Result<File> {
    fault::step()?;
    File::create(path)
}

/// Opens a file to write at its end, whatever that is at the time.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

pub(super) fn write_all(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = fault::step() {
        // A process dies, or a disk is full, in the middle of a write.
        let _ = file.write_all(&bytes[..fault::torn(bytes.len())]);
        return Err(error);
    }
    file.write_all(bytes)
}

pub(super) fn set_length(file: &File, bytes: u64) -> io::Result<()> {
    fault::step()?;
    file.set_len(bytes)
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault::step()?;
    fs::rename(from, to)
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    fault::step()?;
    fs::remove_file(path)
}

pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    fault::step()?;
    fs::remove_dir(path)
}

pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    fault::step()?;
    fs::create_dir(path)
}

/// Waits until what was written to `file` is durable.
pub(super) fn sync_data(file: &File) -> io::Result<()> {
    fault::step()?;
    if fault::SYNCS.get() {
        file.sync_data()
    } else {
        Ok(())
    }
}

/// Makes files and folders durable. Each on its own when they are few; otherwise all that their
/// file system holds, which is one wait instead of hundreds.
pub(super) fn sync<P: AsRef<Path>>(paths: &[P], file_system: &Path) -> io::Result<()> {
    fault::step()?;
    if !fault::SYNCS.get() {
        return Ok(());
    }
    if paths.len() > FEW && sync_file_system(file_system)? {
        return Ok(());
    }
    for path in paths {
        // A descriptor opened later syncs what an earlier one wrote: the file is one.
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn sync_file_system(path: &Path) -> io::Result<bool> {
    rustix::fs::syncfs(File::open(path)?)?;
    Ok(true)
}

/// Other systems have no such call.
#[cfg(not(target_os = "linux"))]
fn sync_file_system(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(not(test))]
mod fault {
    use std::io;

    pub(super) struct Always;

    impl Always {
        pub(super) fn get(self) -> bool {
            true
        }
    }

    pub(super) const SYNCS: Always = Always;

    pub(super) fn step() -> io::Result<()> {
        Ok(())
    }

    pub(super) fn torn(_length: usize) -> usize {
        0
    }
}

/// Faults on demand, for the thread of the test.
#[cfg(test)]
pub(super) mod fault {
    use std::cell::Cell;
    use std::io;

    #[derive(Clone, Copy)]
    enum Plan {
        None,
        /// After so many changes the process dies; a write in that moment gets so far, in percent.
        DieAfter(u64, usize),
        /// It is dead and changes nothing any more.
        Dead,
        /// After so many changes the disk is full, until somebody tidies up.
        FullAfter(u64),
    }

    thread_local! {
        static PLAN: Cell<Plan> = const { Cell::new(Plan::None) };
        static TORN_PERCENT: Cell<usize> = const { Cell::new(0) };
        static STEPS: Cell<u64> = const { Cell::new(0) };
        pub(super) static SYNCS: Cell<bool> = const { Cell::new(true) };
    }

    /// A process that dies leaves the disk as it is, synced or not: its tests need not wait.
    pub(in super::super) fn without_syncs() {
        SYNCS.set(false);
    }

    pub(in super::super) fn none() {
        PLAN.set(Plan::None);
    }

    pub(in super::super) fn die_after(steps: u64, torn_percent: usize) {
        PLAN.set(Plan::DieAfter(steps, torn_percent));
    }

    pub(in super::super) fn full_after(steps: u64) {
        PLAN.set(Plan::FullAfter(steps));
    }

    /// How many changes were asked for since the last call.
    pub(in super::super) fn steps() -> u64 {
        STEPS.replace(0)
    }

    pub(super) fn step() -> io::Result<()> {
        STEPS.set(STEPS.get() + 1);
        TORN_PERCENT.set(0);
        let (next, result) = match PLAN.get() {
            Plan::None => (Plan::None, Ok(())),
            Plan::DieAfter(0, percent) => {
                TORN_PERCENT.set(percent);
                (Plan::Dead, Err(io::Error::other("the process died here")))
            }
            Plan::Dead => (Plan::Dead, Err(io::Error::other("the process is dead"))),
            Plan::FullAfter(0) => {
                TORN_PERCENT.set(50);
                (Plan::FullAfter(0), Err(io::ErrorKind::StorageFull.into()))
            }
            Plan::DieAfter(left, percent) => (Plan::DieAfter(left - 1, percent), Ok(())),
            Plan::FullAfter(left) => (Plan::FullAfter(left - 1), Ok(())),
        };
        PLAN.set(next);
        result
    }

    /// How much of a write gets through when the fault hits.
    pub(super) fn torn(length: usize) -> usize {
        length * TORN_PERCENT.get() / 100
    }
}
