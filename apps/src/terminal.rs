//! The terminal on standard error, some columns narrower than it is, for bars that show how far something is.

use std::io::{self, Write as _};

use indicatif::{ProgressDrawTarget, TermLike};

/// How often a bar is drawn at most, in times a second.
const DRAWN_HZ: u8 = 10;

/// Columns that a bar leaves free: a terminal writes `^C` behind it, which would otherwise go to the next
/// line, and that one be cleared instead of the bar.
const FREE: u16 = 4;

/// Where a bar is drawn, if standard error is a terminal.
pub(crate) fn target() -> ProgressDrawTarget {
    ProgressDrawTarget::term_like_with_hz(Box::new(Terminal), DRAWN_HZ)
}

#[derive(Debug)]
struct Terminal;

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        let size = rustix::termios::tcgetwinsize(io::stderr());
        let columns = size.map_or(0, |size| size.ws_col);
        match columns {
            0 => 80 - FREE,
            _ => columns.saturating_sub(FREE).max(1),
        }
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        step(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        step(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        step(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        step(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{s}")
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        write!(io::stderr(), "{s}")
    }

    fn clear_line(&self) -> io::Result<()> {
        write!(io::stderr(), "\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn step(n: usize, direction: char) -> io::Result<()> {
    match n {
        0 => Ok(()),
        _ => write!(io::stderr(), "\x1b[{n}{direction}"),
    }
}
