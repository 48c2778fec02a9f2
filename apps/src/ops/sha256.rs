//! `sha256`: the digest, in hexadecimal. Needs the whole file: a digest of pieces is another digest.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{Declaration, Merge, OpError, Operation, Split, TaskError, no_argument};

/// `sha256`.
pub(super) static DECLARATION: Declaration = Declaration {
    name: "sha256",
    argument: "",
    takes: "any bytes, the whole file",
    gives: "the SHA-256 digest in hexadecimal",
    split: Split::Whole,
    merge: Merge::Concatenate,
};

struct Sha;

pub(super) fn build(
    argument: Option<&str>,
    _limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    no_argument(&DECLARATION, argument)?;
    Ok(Box::new(Sha))
}

impl Operation for Sha {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn apply(&self, input: &[u8]) -> Result<Vec<u8>, TaskError> {
        let mut line = String::with_capacity(65);
        for byte in Sha256::digest(input) {
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        Ok(line.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::find;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let line = find("sha256").unwrap().apply(b"").unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
        );
    }
}
