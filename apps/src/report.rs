//! What reports are made of: tables, plots, a page, and the folder that they are written into.

pub(crate) mod chart;
pub(crate) mod folder;
pub(crate) mod page;
pub(crate) mod table;

use std::path::Path;

use crate::exit::Exit;

/// Why a report cannot be put together.
pub(crate) fn unwritten(reason: &str) -> Exit {
    Exit::Environment(format!("the report cannot be written: {reason}"))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Exit {
    Exit::Environment(format!(
        "{} cannot be written ({error}): choose another folder for the report",
        path.display()
    ))
}
