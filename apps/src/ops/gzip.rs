//! `gzip`: compresses. RFC 1952 makes a file of several members, one after the other, a valid gzip
//! file that unpacks to the joined contents; so pieces are compressed apart and simply concatenated.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use super::{Declaration, Merge, OpError, Operation, Split, TaskError, bad_argument};

/// `gzip`.
pub(super) static DECLARATION: Declaration = Declaration {
    name: "gzip",
    argument: "LEVEL, 0 to 9 (6)",
    takes: "any bytes",
    gives: "a gzip file, one member per piece",
    split: Split::AtLineEnds,
    merge: Merge::ConcatenateBytes,
};

struct Gzip {
    level: Compression,
}

pub(super) fn build(
    argument: Option<&str>,
    _limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    let level = match argument {
        None => Compression::default(),
        Some(argument) => argument
            .parse()
            .ok()
            .filter(|level| *level <= 9)
            .map(Compression::new)
            .ok_or_else(|| bad_argument(&DECLARATION, argument, "a level from 0 to 9"))?,
    };
    Ok(Box::new(Gzip { level }))
}

impl Operation for Gzip {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn apply(&self, input: &[u8]) -> Result<Vec<u8>, TaskError> {
        // The header holds no time and no name: the same input gives the same bytes on any worker.
        let mut encoder = GzEncoder::new(Vec::new(), self.level);
        let written = encoder.write_all(input).and_then(|()| encoder.finish());
        written.map_err(|source| TaskError::Io {
            what: "compressing",
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::find;

    #[test]
    fn members_one_after_the_other_unpack_to_the_whole() {
        let gzip = find("gzip:9").unwrap();
        let mut file = gzip.apply(b"one\n").unwrap();
        file.extend(gzip.apply("dois é\n".as_bytes()).unwrap());
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&file[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "one\ndois é\n");
    }

    #[test]
    fn a_level_is_a_digit() {
        for bad in ["gzip:10", "gzip:", "gzip:fast", "gzip:-1"] {
            let error = find(bad).err().unwrap().to_string();
            assert!(error.ends_with("it takes a level from 0 to 9"), "{error}");
        }
    }
}
