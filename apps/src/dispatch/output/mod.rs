//! Results.
pub(crate) const JOURNAL_FOLDER: &str = ".mutirao";
