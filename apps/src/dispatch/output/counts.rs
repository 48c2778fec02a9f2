//! Tables of `word\tcount`, sorted by word, and how several become one in little memory.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io::{self, BufRead, Write};

/// Merges sorted tables into one; equal words add up. Memory: one row and one buffer per table.
pub(super) fn merge<R: BufRead>(tables: Vec<R>, out: &mut impl Write) -> io::Result<()> {
    let mut heap = BinaryHeap::with_capacity(tables.len());
    for table in tables {
        let mut cursor = Cursor {
            table,
            row: Vec::new(),
            word_bytes: 0,
            count: 0,
            start: 0,
        };
        if cursor.advance()? {
            heap.push(cursor);
        }
    }
    let (mut word, mut count) = (Vec::new(), 0u64);
    while let Some(mut top) = heap.peek_mut() {
        if top.word() != word {
            write_row(out, &word, count)?;
            word.clear();
            word.extend_from_slice(top.word());
            count = 0;
        }
        count = count.saturating_add(top.count);
        // The heap puts the changed cursor where it belongs when `top` is dropped.
        if !top.advance()? {
            PeekMut::pop(top);
        }
    }
    write_row(out, &word, count)
}

fn write_row(out: &mut impl Write, word: &[u8], count: u64) -> io::Result<()> {
    if word.is_empty() {
        return Ok(());
    }
    out.write_all(word)?;
    writeln!(out, "\t{count}")
}

/// Checks what a worker sent, so that merging can trust it: the first bad row, counted from 1.
pub(super) fn check(table: &[u8]) -> Result<(), usize> {
    let mut before: &[u8] = b"";
    let mut rest = table;
    let mut line = 1usize;
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or(line)?;
        let (word, _) = parse(&rest[..end])
            .filter(|(word, _)| *word > before)
            .ok_or(line)?;
        before = word;
        rest = &rest[end + 1..];
        line += 1;
    }
    Ok(())
}

/// A row without its line end as word and count; a word has at least one byte.
fn parse(row: &[u8]) -> Option<(&[u8], u64)> {
    let tab = row
        .iter()
        .rposition(|&byte| byte == b'\t')
        .filter(|&tab| tab > 0)?;
    let count = std::str::from_utf8(&row[tab + 1..]).ok()?.parse().ok()?;
    Some((&row[..tab], count))
}

/// The row that a table has got to.
struct Cursor<R> {
    table: R,
    row: Vec<u8>,
    word_bytes: usize,
    count: u64,
    /// The word's first eight bytes, as a number that sorts like them: most comparisons end here.
    start: u64,
}

impl<R: BufRead> Cursor<R> {
    /// False at the end of the table.
    fn advance(&mut self) -> io::Result<bool> {
        self.row.clear();
        if self.table.read_until(b'\n', &mut self.row)? == 0 {
            return Ok(false);
        }
        let row = self.row.strip_suffix(b"\n").unwrap_or(&self.row);
        let (word, count) = parse(row).ok_or(io::ErrorKind::InvalidData)?;
        let mut start = [0; 8];
        let bytes = word.len().min(8);
        start[..bytes].copy_from_slice(&word[..bytes]);
        (self.word_bytes, self.count) = (word.len(), count);
        self.start = u64::from_be_bytes(start);
        Ok(true)
    }
}

impl<R> Cursor<R> {
    fn word(&self) -> &[u8] {
        &self.row[..self.word_bytes]
    }
}

impl<R> Ord for Cursor<R> {
    /// The smallest word is the greatest cursor: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .start
            .cmp(&self.start)
            .then_with(|| other.word().cmp(self.word()))
    }
}

impl<R> PartialOrd for Cursor<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> PartialEq for Cursor<R> {
    fn eq(&self, other: &Self) -> bool {
        self.word() == other.word()
    }
}

impl<R> Eq for Cursor<R> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn table(counts: &BTreeMap<String, u64>) -> Vec<u8> {
        let rows: String = counts
            .iter()
            .map(|(word, n)| format!("{word}\t{n}\n"))
            .collect();
        rows.into_bytes()
    }

    proptest! {
        #[test]
        fn merging_adds_up(parts in vec(btree_map("[a-cé]{1,3}", 1..9u64, 0..20), 0..10)) {
            let mut sum = BTreeMap::new();
            for (word, count) in parts.iter().flatten() {
                *sum.entry(word.clone()).or_insert(0) += count;
            }
            let tables: Vec<_> = parts.iter().map(table).collect();
            for table in &tables {
                prop_assert_eq!(check(table), Ok(()));
            }
            let mut merged = Vec::new();
            merge(tables.iter().map(Vec::as_slice).collect(), &mut merged).unwrap();
            prop_assert_eq!(merged, table(&sum));
        }

        #[test]
        fn checking_random_bytes_never_panics(bytes: Vec<u8>) {
            let _ = check(&bytes);
        }
    }

    #[test]
    fn a_bad_row_is_found() {
        for (bad, row) in [("a\t1\nb", 2), ("b\t1\na\t1\n", 2), ("a\t1\na\t1\n", 2)] {
            assert_eq!(check(bad.as_bytes()), Err(row), "{bad:?}");
        }
        for bad in ["\t1\n", "a\n", "a\t\n", "a\tx\n", "a\t-1\n", "\n"] {
            assert_eq!(check(bad.as_bytes()), Err(1), "{bad:?}");
        }
    }
}
