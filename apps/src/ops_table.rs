//! `mutirao ops`: the operations as a table.

use std::io::Write as _;

use crate::exit::Exit;
use crate::ops::{self, Merge, Split};

pub(crate) fn print() -> Result<(), Exit> {
    let mut rows = vec![["OPERATION", "TAKES", "GIVES", "LARGE FILES"].map(str::to_string)];
    for op in ops::catalogue() {
        let name = format!(
            "{}{}",
            op.name,
            if op.argument.is_empty() {
                String::new()
            } else {
                format!("[:{}]", op.argument)
            }
        );
        let files = match (op.split, op.merge) {
            (Split::Whole, _) => "go whole",
            (Split::AtLineEnds, Merge::Concatenate | Merge::ConcatenateBytes) => {
                "split at line ends, joined in order"
            }
            (Split::AtLineEnds, Merge::SumCounts | Merge::SumLines) => {
                "split at line ends, counts added"
            }
        };
        rows.push([
            name,
            op.takes.to_string(),
            op.gives.to_string(),
            files.to_string(),
        ]);
    }
    let widths: Vec<usize> = (0..3)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = std::io::stdout().lock();
    for [name, takes, gives, files] in rows {
        // A reader that has seen enough closes the pipe; that is no error.
        let _ = writeln!(
            out,
            "{name:0$}  {takes:1$}  {gives:2$}  {files}",
            widths[0], widths[1], widths[2]
        );
    }
    Ok(())
}
