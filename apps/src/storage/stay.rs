//! Serving until a signal comes.

use std::fs;
use std::path::Path;

use mutirao::stop::StopHandle;

use crate::exit::Exit;
use crate::signals::{Caught, Signal};

/// Waits until it is stopped or cannot go on.
pub(super) fn stay(
    who: &str,
    caught: Caught,
    stop: StopHandle,
    wait: impl FnOnce() -> Result<(), String>,
) -> Result<(), Exit> {
    let (tell, told) = std::sync::mpsc::channel();
    caught.then(move |signal| {
        let _ = tell.send(signal);
        stop.stop();
    });
    wait().map_err(Exit::Environment)?;
    match told.try_recv() {
        Ok(Signal::Interrupt) => Err(Exit::Interrupted(format!("{who} was stopped"))),
        _ => {
            log::info!("{who} was stopped");
            Ok(())
        }
    }
}

/// The folder, made if it is missing.
pub(super) fn make_folder(folder: &Path) -> Result<(), Exit> {
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let synced = |folder: &Path| fs::File::open(folder)?.sync_all();
    let made = fs::create_dir_all(folder).and_then(|()| parent.map_or(Ok(()), synced));
    made.map_err(|error| {
        Exit::Environment(format!(
            "the folder {} cannot be made ({error}): choose another with --data",
            folder.display()
        ))
    })
}
