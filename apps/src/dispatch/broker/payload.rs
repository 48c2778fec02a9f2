//! What travels through a broker: our own records, or plain bytes of programs that know none.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A record, which is a MessagePack array, or a plain `bin` or `str`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrBytes<T> {
    Value(T),
    Bytes(Vec<u8>),
}

impl<T: Serialize> Serialize for OrBytes<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            OrBytes::Value(value) => value.serialize(serializer),
            OrBytes::Bytes(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrBytes<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OrBytes<T>, D::Error> {
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

struct Reader<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
    type Value = OrBytes<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record of ours, or plain bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OrBytes<T>, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(seq)).map(OrBytes::Value)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<OrBytes<T>, E> {
        Ok(OrBytes::Bytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<OrBytes<T>, E> {
        Ok(OrBytes::Bytes(bytes))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OrBytes<T>, E> {
        self.visit_bytes(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::task::Task;
    use super::*;

    #[test]
    fn records_and_plain_bytes_are_told_apart() {
        let task = Task {
            op: "noop".into(),
            data: vec![1, 2],
            problem: Some("x".into()),
            ..Task::default()
        };
        let record = rmp_serde::to_vec(&task).unwrap();
        let value = OrBytes::Value(task);
        assert_eq!(rmp_serde::to_vec(&value).unwrap(), record);
        assert_eq!(
            rmp_serde::from_slice::<OrBytes<Task>>(&record).unwrap(),
            value
        );
        for record in [&b"\xc4\x02ab"[..], b"\xa2ab"] {
            let read = rmp_serde::from_slice::<OrBytes<Task>>(record).unwrap();
            assert_eq!(read, OrBytes::Bytes(b"ab".to_vec()));
        }
        assert!(rmp_serde::from_slice::<OrBytes<Task>>(b"\x01").is_err());
        let bytes: OrBytes<Task> = OrBytes::Bytes(b"ab".to_vec());
        assert_eq!(rmp_serde::to_vec(&bytes).unwrap(), b"\xc4\x02ab");
    }
}
