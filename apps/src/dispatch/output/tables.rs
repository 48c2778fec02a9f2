//! Partial word counts of one input. Each is a sorted table in a file of its own; whenever there
//! are [`FAN_IN`] of a size, they become one of the next size. So the work is spread over the job,
//! a table is copied once per level, and memory is [`FAN_IN`] buffers whatever the input's size.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};

use serde::{Deserialize, Serialize};

use super::store::Store;
use super::{OutputError, counts, disk};

/// How many tables of a level are merged into one of the next.
const FAN_IN: usize = 32;

const BUFFER_BYTES: usize = 16 * 1024;

/// A table in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Table {
    /// Part of its file's name.
    pub(super) number: u32,
    /// How many merges it comes from.
    level: u32,
    /// Its size.
    pub(super) bytes: u64,
}

/// The tables of one input, highest level first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tables {
    tables: Vec<Table>,
    next: u32,
}

impl Tables {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter()
    }

    /// Keeps one more table, which has been checked.
    pub(super) fn add(
        &mut self,
        input: u32,
        data: &[u8],
        store: &mut Store,
    ) -> Result<(), OutputError> {
        let number = self.number();
        let path = store.table(input, number);
        let file = store.create(path.clone())?;
        disk::write_all(&file, data).map_err(OutputError::at(&path))?;
        self.tables.push(Table {
            number,
            level: 0,
            bytes: data.len() as u64,
        });
        self.compact(input, store)
    }

    /// Merges everything into the input's part file, which is there and empty; the tables are
    /// removed with the next commit. The result's size.
    pub(super) fn merge_all(&mut self, input: u32, store: &mut Store) -> Result<u64, OutputError> {
        let all = std::mem::take(&mut self.tables);
        let part = store.part(Some(input));
        let out = disk::append_to(&part).map_err(OutputError::at(&part))?;
        merge(&all, input, &out, store)
    }

    fn compact(&mut self, input: u32, store: &mut Store) -> Result<(), OutputError> {
        while let Some(level) = self.full_level() {
            let start = self.tables.len() - FAN_IN;
            let group = self.tables.split_off(start);
            let number = self.number();
            let out = store.create(store.table(input, number))?;
            let bytes = merge(&group, input, &out, store)?;
            self.tables.push(Table {
                number,
                level: level + 1,
                bytes,
            });
        }
        Ok(())
    }

    /// The level of the last [`FAN_IN`] tables, if they share it.
    fn full_level(&self) -> Option<u32> {
        let start = self.tables.len().checked_sub(FAN_IN)?;
        let level = self.tables[start].level;
        (level == self.tables.last()?.level).then_some(level)
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }
}

fn merge(tables: &[Table], input: u32, out: &File, store: &mut Store) -> Result<u64, OutputError> {
    let mut readers = Vec::with_capacity(tables.len());
    for table in tables {
        let path = store.table(input, table.number);
        let file = File::open(&path).map_err(OutputError::at(&path))?;
        readers.push(BufReader::with_capacity(BUFFER_BYTES, file));
        store.discard(path);
    }
    let mut out = BufWriter::with_capacity(
        4 * BUFFER_BYTES,
        Counted {
            file: out,
            bytes: 0,
        },
    );
    let merged = counts::merge(readers, &mut out).and_then(|()| out.flush());
    // Not `?` on the way: a writer that is dropped with an error behind it must not write on.
    let (Counted { bytes, .. }, _) = out.into_parts();
    merged.map_err(OutputError::at(store.folder()))?;
    Ok(bytes)
}

/// A file that knows how much went into it.
struct Counted<'a> {
    file: &'a File,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        disk::write_all(self.file, bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tables_become_few_and_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(folder.path().to_owned());
        let mut tables = Tables::default();
        for i in 0..FAN_IN * FAN_IN + 5 {
            let data = format!("all\t1\nword{}\t2\n", i % 3);
            tables.add(4, data.as_bytes(), &mut store).unwrap();
            assert!(tables.tables.len() < 2 * FAN_IN);
            store.tidy().unwrap();
        }
        store.create_part(Some(4)).unwrap();
        let bytes = tables.merge_all(4, &mut store).unwrap();
        let text = std::fs::read_to_string(store.part(Some(4))).unwrap();
        assert_eq!(text, "all\t1029\nword0\t686\nword1\t686\nword2\t686\n");
        assert_eq!(bytes, text.len() as u64);
    }
}
