//! Names that are 64-bit numbers: as numbers in MessagePack; as 16 hexadecimal digits, which is how people see
//! them, where text is written, as many a reader of JSON rounds large numbers.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

pub(crate) fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    match serializer.is_human_readable() {
        true => write(*id).serialize(serializer),
        false => id.serialize(serializer),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    if !deserializer.is_human_readable() {
        return u64::deserialize(deserializer);
    }
    let text = String::deserialize(deserializer)?;
    read(&text).ok_or_else(|| D::Error::custom("an id is a string of 1 to 16 hexadecimal digits"))
}

pub(crate) fn write(id: u64) -> String {
    format!("{id:016x}")
}

pub(crate) fn read(text: &str) -> Option<u64> {
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// The same for lists of them.
pub(crate) mod list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Id(#[serde(with = "super")] u64);

    pub(crate) fn serialize<S: Serializer>(ids: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ids.iter().map(|&id| Id(id)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u64>, D::Error> {
        let ids = Vec::<Id>::deserialize(deserializer)?;
        Ok(ids.into_iter().map(|Id(id)| id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is_one() {
        for id in [0, 7, u64::MAX] {
            assert_eq!(read(&write(id)), Some(id));
        }
        assert_eq!(read("2a"), Some(42));
        for wrong in ["", "+1", "-1", "0x1", "g", " 1", "00000000000000001"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
