//! `mutirao ops`: the operations as a table.

use std::io::{self, Write};

use crate::exit::Exit;
use crate::ops::{self, Declaration, Merge, Split};

pub(crate) fn print() -> Result<(), Exit> {
    // A reader that has seen enough closes the pipe; that is no error.
    let _ = write_table(&mut io::stdout().lock());
    Ok(())
}

fn write_table(out: &mut impl Write) -> io::Result<()> {
    let heads = [["OPERATION", "TAKES", "GIVES", "LARGE FILES"]];
    let rows: Vec<_> = heads.into_iter().chain(ops::catalogue().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let [name, takes, gives] = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    for row in &rows {
        writeln!(
            out,
            "{:name$}  {:takes$}  {:gives$}  {}",
            row[0], row[1], row[2], row[3]
        )?;
    }
    writeln!(
        out,
        "\nAn argument may follow; in brackets, what holds without one:"
    )?;
    for op in ops::catalogue().filter(|op| !op.argument.is_empty()) {
        writeln!(out, "  {}:{}", op.name, op.argument)?;
    }
    Ok(())
}

fn row(op: &'static Declaration) -> [&'static str; 4] {
    let files = match (op.split, op.merge) {
        (Split::Whole, _) => "whole",
        (Split::AtLineEnds, Merge::Concatenate | Merge::ConcatenateBytes) => "split, joined",
        (Split::AtLineEnds, Merge::SumCounts | Merge::SumLines) => "split, added up",
    };
    [op.name, op.takes, op.gives, files]
}
