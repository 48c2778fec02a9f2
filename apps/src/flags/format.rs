//! Whether something is printed for a person or for a program.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::exit::Exit;

/// For whom something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a person
    Text,
    /// For a program: JSON, one value to a line
    Json,
}

/// For whom something is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct FormatFlag {
    /// For a person or for a program: text or json
    #[arg(
        long,
        env = "MUTIRAO_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    format: Format,
}

impl FormatFlag {
    /// Whether it is for a person.
    pub(crate) fn is_text(&self) -> bool {
        self.format == Format::Text
    }

    /// Prints in the form that was asked for.
    pub(crate) fn write(
        &self,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        json: impl FnOnce() -> Value,
    ) -> Result<(), Exit> {
        let out = &mut io::stdout().lock();
        let written = match self.format {
            Format::Text => text(out),
            Format::Json => writeln!(out, "{}", json()),
        };
        written
            .and_then(|()| out.flush())
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => Exit::ReaderGone,
                _ => Exit::Environment(format!("standard output cannot be written: {error}")),
            })
    }
}
