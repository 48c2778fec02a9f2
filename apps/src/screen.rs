//! One look after another at something that changes: in its place on a terminal, below it elsewhere.

use std::io::{self, IsTerminal as _, Write};

use crate::count::counted;

/// Goes to the first line of a terminal; wipes the rest of a line, and all below.
const HOME: &str = "\x1b[H";
const REST: &str = "\x1b[K";
const BELOW: &str = "\x1b[J";

/// How one look follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// In its place, on a terminal.
    InPlace,
    /// After it, and an empty line.
    Below,
    /// Never.
    Once,
}

impl Screen {
    /// For looks that follow each other, or for one.
    pub(crate) fn new(follow: bool) -> Screen {
        match follow {
            false => Screen::Once,
            true if io::stdout().is_terminal() => Screen::InPlace,
            true => Screen::Below,
        }
    }

    /// Shows a look.
    pub(crate) fn write(&self, out: &mut dyn Write, text: &str) -> io::Result<()> {
        match self {
            Screen::Once => write!(out, "{text}"),
            Screen::Below => writeln!(out, "{text}"),
            Screen::InPlace => {
                let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
                let size = size.map(|size| (size.ws_col.into(), size.ws_row.into()));
                write!(out, "{}", frame(text, size.unwrap_or((80, 24))))
            }
        }
    }
}

/// A text that takes the place of the one before it on a terminal with so many columns and rows:
/// nothing is wiped that is not written over at once, so that it does not flicker.
fn frame(text: &str, (columns, rows): (usize, usize)) -> String {
    let mut frame = HOME.to_owned();
    let lines: Vec<&str> = text.lines().collect();
    // The last row is the cursor's.
    let room = rows.saturating_sub(1).max(1);
    let shown = match lines.len() > room {
        true => room.saturating_sub(1),
        false => lines.len(),
    };
    for line in &lines[..shown] {
        frame += &format!("{}{REST}\n", cut(line, columns));
    }
    if shown < lines.len() {
        let more = format!(
            "… and {}",
            counted((lines.len() - shown) as u64, "more line")
        );
        frame += &format!("{}{REST}\n", cut(&more, columns));
    }
    frame + BELOW
}

/// As much of a line as fits.
fn cut(line: &str, columns: usize) -> String {
    match line.chars().count() > columns {
        false => line.to_owned(),
        true => line
            .chars()
            .take(columns.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal_and_leaves_nothing_of_the_last_one() {
        let text = "short\na line that is too long\nthird\nfourth\n";
        let plain = |frame: String| frame.replace(HOME, "").replace(REST, "").replace(BELOW, "");
        let whole = frame(text, (80, 24));
        assert_eq!(plain(whole.clone()), text);
        assert_eq!(whole.matches(REST).count(), 4);
        let small = plain(frame(text, (10, 4)));
        assert_eq!(small, "short\na line th…\n… and 2 m…\n");
        assert_eq!(plain(frame(text, (80, 5))), text);
        frame(text, (0, 0));
    }
}
