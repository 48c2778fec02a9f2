//! `data.txt` on a real disk: lines appended and synced, records read where they lie.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{
    DataLine, InstanceId, LineError, Lines, Named, Payload, ReadFailure, RecordId, TextLine,
};

/// Bytes of a line beyond those of its record in Base64.
const LINE_OVERHEAD_BYTES: u64 = 256;

/// The file of a data node. Only one program may have it open.
#[derive(Debug)]
pub struct RecordFile {
    file: File,
    /// Where the last line of each record lies: its offset and its length, in bytes.
    places: HashMap<RecordId, (u64, u64)>,
    end: u64,
    /// Bytes to cut off before anything else is appended.
    dirty: bool,
    damaged: u64,
}

impl RecordFile {
    /// Opens the file or makes it, with `fresh` and `name` in its first line. What it says is given to
    /// `replay` line by line; a torn last line is cut off. Returns whose file it is.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, read or written, or its first line does not say whose it is.
    pub fn open(
        path: &Path,
        (fresh, name): (InstanceId, &str),
        record_bytes: u64,
        mut replay: impl FnMut(DataLine),
    ) -> io::Result<(RecordFile, InstanceId)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut opened = RecordFile {
            file,
            places: HashMap::new(),
            end: 0,
            dirty: false,
            damaged: 0,
        };
        let longest = record_bytes.saturating_mul(2) + LINE_OVERHEAD_BYTES;
        let reader = BufReader::new(opened.file.try_clone()?);
        let mut owner = None;
        for named in Lines::<_, DataLine>::new(reader, longest) {
            opened.take(named?, &mut owner, &mut replay);
        }
        if opened.end == 0 && opened.is_ours()? {
            let (instance, name) = (fresh, name.to_string());
            opened.append(&DataLine::Node { instance, name })?;
            opened.sync()?;
            sync_folder(path)?;
            owner = Some(fresh);
        }
        let owner = owner.ok_or_else(|| {
            let path = path.display();
            let reason = format!("{path} does not begin with a sound `node` line: move it away, and its records come back from the other data nodes");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        Ok((opened, owner))
    }

    /// Whether the file is empty, or its only line was being written when the program died.
    fn is_ours(&self) -> io::Result<bool> {
        let mut start = [0; 5];
        let count = self.file.read_at(&mut start, 0)?;
        Ok(b"node ".starts_with(&start[..count]))
    }

    fn take(
        &mut self,
        named: Named<DataLine>,
        owner: &mut Option<InstanceId>,
        replay: &mut impl FnMut(DataLine),
    ) {
        let Named { offset, length, .. } = named;
        match named.line {
            Ok(line) => {
                self.end = offset + length;
                match line {
                    DataLine::Node { instance, .. } => *owner = owner.or(Some(instance)),
                    DataLine::Record { id, .. } => {
                        self.places.insert(id, (offset, length));
                    }
                    _ => {}
                }
                replay(line);
            }
            Err(LineError::Torn) => self.dirty = true,
            Err(LineError::Damaged | LineError::TooLong) => {
                self.end = offset + length;
                self.damaged += 1;
            }
        }
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// How long the file is.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Lines that were passed over when the file was opened.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Appends a line; it is not safe before [`sync`](RecordFile::sync).
    ///
    /// # Errors
    ///
    /// The disk does not take it, and nothing of it counts; the next line can be tried.
    pub fn append(&mut self, line: &DataLine) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.end)?;
            self.dirty = false;
        }
        let bytes = line.to_line().into_bytes();
        self.dirty = true;
        self.file.write_all_at(&bytes, self.end)?;
        self.dirty = false;
        let length = bytes.len() as u64;
        if let DataLine::Record { id, .. } = line {
            self.places.insert(*id, (self.end, length));
        }
        self.end += length;
        Ok(())
    }

    /// Waits until all lines are on disk.
    ///
    /// # Errors
    ///
    /// The disk has lost some of them, nobody knows which: the program must end and open the file again.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads the last line of a record.
    ///
    /// # Errors
    ///
    /// It is damaged, or the disk does not answer.
    pub fn read(&self, id: RecordId) -> Result<Payload, ReadFailure> {
        let &(offset, length) = self.places.get(&id).ok_or(ReadFailure::Damaged)?;
        let length = usize::try_from(length).map_err(|_| ReadFailure::Unreadable)?;
        let mut line = vec![0; length];
        let read = self.file.read_exact_at(&mut line, offset);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadFailure::Damaged,
            _ => ReadFailure::Unreadable,
        })?;
        match DataLine::from_line(&line) {
            Ok(DataLine::Record {
                id: found, bytes, ..
            }) if found == id => Ok(bytes),
            _ => Err(ReadFailure::Damaged),
        }
    }
}

/// A new file is safe when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HeadId, Stamp};
    use super::*;

    const HERE: InstanceId = InstanceId(7);

    fn record(id: u64, bytes: &[u8]) -> DataLine {
        let bytes = Payload::from(bytes);
        DataLine::Record {
            id: RecordId(id),
            stamp: Stamp::default(),
            checksum: bytes.checksum(),
            bytes,
        }
    }

    fn open(path: &Path) -> (RecordFile, Vec<DataLine>) {
        let mut lines = Vec::new();
        let other = InstanceId(path.as_os_str().len() as u64);
        let fresh = if path.exists() { other } else { HERE };
        let opened = RecordFile::open(path, (fresh, "norte"), 1_000, |line| lines.push(line));
        let (file, owner) = opened.unwrap();
        assert_eq!(owner, HERE);
        (file, lines)
    }

    #[test]
    fn what_was_synced_is_there_again_and_what_was_torn_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let (mut file, _) = open(&path);
        file.append(&record(1, b"one")).unwrap();
        file.append(&record(2, &[0, 255])).unwrap();
        file.sync().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in 1..40 {
            std::fs::write(&path, &whole[..whole.len() - torn]).unwrap();
            let (mut file, lines) = open(&path);
            assert_eq!(lines.len(), 2, "the first line and one record");
            assert_eq!(&file.read(RecordId(1)).unwrap()[..], b"one");
            assert_eq!(file.read(RecordId(2)), Err(ReadFailure::Damaged));
            let epoch = DataLine::Epoch {
                epoch: 1,
                head: HeadId(1),
            };
            file.append(&epoch).unwrap();
            file.append(&record(2, b"again")).unwrap();
            let (file, lines) = open(&path);
            assert_eq!((lines.len(), file.damaged()), (4, 0));
            assert_eq!(&file.read(RecordId(2)).unwrap()[..], b"again");
        }
    }

    #[test]
    fn a_flipped_bit_is_found_by_reading_and_passed_over_by_opening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let (mut file, _) = open(&path);
        file.append(&record(1, b"one")).unwrap();
        file.append(&record(2, b"two")).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(3).position(|part| part == b"one").unwrap();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(file.read(RecordId(1)), Err(ReadFailure::Damaged));
        let (file, lines) = open(&path);
        assert_eq!((lines.len(), file.damaged()), (2, 1));
        assert_eq!(&file.read(RecordId(2)).unwrap()[..], b"two");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        for foreign in ["something else\n", "without an end"] {
            std::fs::write(&path, foreign).unwrap();
            let error = RecordFile::open(&path, (HERE, "norte"), 1_000, |_| {}).unwrap_err();
            assert!(error.to_string().contains("move it away"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
        }
    }
}
