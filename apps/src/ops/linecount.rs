//! `linecount`: how many lines. Counts bytes, so the text may be in any encoding.

use super::{Declaration, Merge, OpError, Operation, Split, TaskError, no_argument};

/// `linecount`.
pub(super) static DECLARATION: Declaration = Declaration {
    name: "linecount",
    argument: "",
    takes: "any bytes",
    gives: "how many lines, an unended last one too",
    split: Split::AtLineEnds,
    merge: Merge::SumLines,
};

struct LineCount;

pub(super) fn build(
    argument: Option<&str>,
    _limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    no_argument(&DECLARATION, argument)?;
    Ok(Box::new(LineCount))
}

impl Operation for LineCount {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn apply(&self, input: &[u8]) -> Result<Vec<u8>, TaskError> {
        Ok(format!("{}\n", count(input)).into_bytes())
    }
}

/// Only the last piece of a file can lack its line end, so the pieces' counts add up.
fn count(input: &[u8]) -> usize {
    // Sums of bytes stay in vector registers; counting in `usize` does not. 255 ones fit a byte.
    let ends: usize = input
        .chunks(255)
        .map(|chunk| usize::from(chunk.iter().map(|&b| u8::from(b == b'\n')).sum::<u8>()))
        .sum();
    ends + usize::from(input.last().is_some_and(|&b| b != b'\n'))
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn an_unterminated_last_line_counts() {
        assert_eq!(count(b""), 0);
        assert_eq!(count(b"\n"), 1);
        assert_eq!(count(b"a"), 1);
        assert_eq!(count(b"a\nb"), 2);
        assert_eq!(count(b"a\nb\n"), 2);
        assert_eq!(count(&[b'\n'; 1000]), 1000);
    }
}
