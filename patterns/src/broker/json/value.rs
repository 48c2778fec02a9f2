//! MessagePack values as JSON, and back.
//!
//! | MessagePack | JSON |
//! | --- | --- |
//! | nil, bool, integer, finite float | the same |
//! | str, and bin that is UTF-8 | a string, which is read as str |
//! | other bin | `{"base64": "…"}` |
//! | array; map whose keys are str | array; object |
//! | anything else, as a whole | `{"messagepack": "…"}`, its bytes in base64 |
//!
//! Neither direction builds a tree: memory follows the bytes that came, not what they claim to be.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rmp::Marker;
use rmp::encode;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::wire::value_bytes;

/// Arrays and maps within each other; `serde_json` takes 128, those around a value included.
const DEPTH: usize = 100;

/// The keys of objects that stand for something else.
const BASE64: &str = "base64";
const MESSAGEPACK: &str = "messagepack";

/// What an array or a map takes before its first element, at most.
const HEADER_BYTES: usize = 5;

/// JSON may be so much longer than its MessagePack before it is written in another way, so that what
/// fits into a message still does.
const MAX_GROWTH_BYTES: usize = 256 << 10;

/// Appends a sound value as JSON.
pub(super) fn write(out: &mut Vec<u8>, value: &[u8]) {
    let (start, mut rest) = (out.len(), value);
    let written = put(out, &mut rest, DEPTH);
    let bytes = out.len() - start;
    let is_long = bytes > base64_bytes(value.len()) + MAX_GROWTH_BYTES;
    if written.is_none() || !rest.is_empty() || is_long {
        out.truncate(start);
        encoded(out, MESSAGEPACK, value);
    }
}

/// Appends bytes as a string if they are one, else as base64; whether they are.
pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let start = out.len();
    let text = std::str::from_utf8(bytes).ok();
    if text.is_some_and(|text| serde_json::to_writer(&mut *out, text).is_ok()) {
        // Control characters take six times as much.
        if out.len() - start <= base64_bytes(bytes.len()) + 64 {
            return true;
        }
        out.truncate(start);
    }
    encoded(out, BASE64, bytes);
    false
}

fn base64_bytes(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

fn encoded(out: &mut Vec<u8>, key: &str, bytes: &[u8]) {
    out.extend_from_slice(format!("{{\"{key}\":\"").as_bytes());
    out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
    out.extend_from_slice(b"\"}");
}

/// Appends the next value of `rest`; `None` when it has no form in JSON.
fn put(out: &mut Vec<u8>, rest: &mut &[u8], depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let marker = Marker::from_u8(take(rest, 1)?[0]);
    match marker {
        Marker::Null => out.extend_from_slice(b"null"),
        Marker::True => out.extend_from_slice(b"true"),
        Marker::False => out.extend_from_slice(b"false"),
        Marker::FixPos(number) => show(out, number),
        Marker::FixNeg(number) => show(out, number),
        Marker::U8 => show(out, number(rest, 1)?),
        Marker::U16 => show(out, number(rest, 2)?),
        Marker::U32 => show(out, number(rest, 4)?),
        Marker::U64 => show(out, number(rest, 8)?),
        Marker::I8 => show(out, number(rest, 1)? as i8),
        Marker::I16 => show(out, number(rest, 2)? as i16),
        Marker::I32 => show(out, number(rest, 4)? as i32),
        Marker::I64 => show(out, number(rest, 8)? as i64),
        Marker::F32 => float(out, f64::from(f32::from_bits(number(rest, 4)? as u32)))?,
        Marker::F64 => float(out, f64::from_bits(number(rest, 8)?))?,
        _ => {
            if let Some(bytes) = bytes_of(marker, rest)? {
                // In base64 it would be read as bin.
                (write_bytes(out, bytes) || is_bin(marker)).then_some(())?;
            } else if let Some(count) = array_of(marker, rest)? {
                put_array(out, rest, count, depth)?;
            } else {
                let count = map_of(marker, rest)?;
                put_map(out, rest, count, depth)?;
            }
        }
    }
    Some(())
}

fn put_array(out: &mut Vec<u8>, rest: &mut &[u8], count: u64, depth: usize) -> Option<()> {
    out.push(b'[');
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        put(out, rest, depth)?;
    }
    out.push(b']');
    Some(())
}

fn put_map(out: &mut Vec<u8>, rest: &mut &[u8], count: u64, depth: usize) -> Option<()> {
    out.push(b'{');
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        let key = text(rest)?;
        if at == 0 && (key == BASE64 || key == MESSAGEPACK) {
            // It would be read as what these stand for.
            return None;
        }
        serde_json::to_writer(&mut *out, key).ok()?;
        out.push(b':');
        put(out, rest, depth)?;
    }
    out.push(b'}');
    Some(())
}

fn show(out: &mut Vec<u8>, number: impl fmt::Display) {
    out.extend_from_slice(number.to_string().as_bytes());
}

fn float(out: &mut Vec<u8>, number: f64) -> Option<()> {
    // Not a number, and infinity, are none in JSON.
    let number = Some(number).filter(|number| number.is_finite())?;
    serde_json::to_writer(out, &number).ok()
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    let digits = take(rest, bytes)?.iter();
    Some(digits.fold(0, |sum, &digit| sum << 8 | u64::from(digit)))
}

/// The bytes of a str or bin; the inner `None` when the marker is of something else.
fn bytes_of<'a>(marker: Marker, rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let bytes = match marker {
        Marker::FixStr(bytes) => u64::from(bytes),
        Marker::Str8 | Marker::Bin8 => number(rest, 1)?,
        Marker::Str16 | Marker::Bin16 => number(rest, 2)?,
        Marker::Str32 | Marker::Bin32 => number(rest, 4)?,
        _ => return Some(None),
    };
    Some(Some(take(rest, bytes as usize)?))
}

fn array_of(marker: Marker, rest: &mut &[u8]) -> Option<Option<u64>> {
    Some(Some(match marker {
        Marker::FixArray(count) => u64::from(count),
        Marker::Array16 => number(rest, 2)?,
        Marker::Array32 => number(rest, 4)?,
        _ => return Some(None),
    }))
}

fn map_of(marker: Marker, rest: &mut &[u8]) -> Option<u64> {
    match marker {
        Marker::FixMap(count) => Some(u64::from(count)),
        Marker::Map16 => number(rest, 2),
        Marker::Map32 => number(rest, 4),
        _ => None,
    }
}

/// The next value of `rest`, which is a str.
pub(super) fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let marker = Marker::from_u8(take(rest, 1)?[0]);
    let is_str = matches!(
        marker,
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32
    );
    let bytes = bytes_of(marker, rest)?.filter(|_| is_str)?;
    std::str::from_utf8(bytes).ok()
}

/// The next value of `rest`, which is a bin.
pub(super) fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let marker = Marker::from_u8(take(rest, 1)?[0]);
    bytes_of(marker, rest)?.filter(|_| is_bin(marker))
}

fn is_bin(marker: Marker) -> bool {
    matches!(marker, Marker::Bin8 | Marker::Bin16 | Marker::Bin32)
}

/// The next value of `rest`, which is an array; how many elements follow.
pub(super) fn array(rest: &mut &[u8]) -> Option<u64> {
    let marker = Marker::from_u8(take(rest, 1)?[0]);
    array_of(marker, rest)?
}

/// A JSON value, read into MessagePack.
#[derive(Debug)]
pub(super) struct Value(pub(super) Vec<u8>);

impl Value {
    /// What a string, or base64, stands for; `None` for anything else.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        let mut rest = &self.0[..];
        let marker = Marker::from_u8(take(&mut rest, 1)?[0]);
        bytes_of(marker, &mut rest)?
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        let mut bytes = Vec::new();
        Into(&mut bytes).deserialize(deserializer)?;
        Ok(Value(bytes))
    }
}

/// Reads a field that is there; `null` is a value like others.
pub(super) fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Appends the value that is read.
struct Into<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Into<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Writing to memory cannot fail.
fn written<T, E, R: Error>(result: Result<T, E>) -> Result<(), R> {
    result.map(|_| ()).map_err(|_| R::custom("it does not fit"))
}

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        written(encode::write_nil(self.0))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        written(encode::write_bool(self.0, value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        written(encode::write_uint(self.0, value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        written(encode::write_sint(self.0, value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        written(encode::write_f64(self.0, value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        written(encode::write_str(self.0, value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let (start, mut count) = (open(self.0), 0);
        while values.next_element_seed(Into(self.0))?.is_some() {
            count += 1;
        }
        close(self.0, start, count, encode::write_array_len)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let (start, mut count) = (open(self.0), 0);
        while let Some(key) = entries.next_key::<Cow<'de, str>>()? {
            if count == 0 && (key == BASE64 || key == MESSAGEPACK) {
                self.0.truncate(start);
                let is_value = key == MESSAGEPACK;
                return read_encoded(self.0, entries, is_value);
            }
            written(encode::write_str(self.0, &key))?;
            entries.next_value_seed(Into(self.0))?;
            count += 1;
        }
        close(self.0, start, count, encode::write_map_len)
    }
}

/// Reads what stands for bytes, or for a whole value.
fn read_encoded<'de, A: MapAccess<'de>>(
    out: &mut Vec<u8>,
    mut entries: A,
    is_value: bool,
) -> Result<(), A::Error> {
    let text = entries.next_value::<Cow<'de, str>>()?;
    let bytes = BASE64_STANDARD.decode(text.as_bytes());
    let bytes = bytes.map_err(|_| A::Error::custom("no base64"))?;
    if entries.next_key::<Cow<'de, str>>()?.is_some() {
        return Err(A::Error::custom("nothing stands beside base64"));
    }
    match is_value {
        false => written(encode::write_bin(out, &bytes)),
        true if value_bytes(&bytes) == Some(bytes.len()) => {
            out.extend_from_slice(&bytes);
            Ok(())
        }
        true => Err(A::Error::custom("not one value in MessagePack")),
    }
}

/// Leaves room for the number of elements, which is known at the end.
fn open(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    start
}

fn close<T, V, E: Error>(
    out: &mut Vec<u8>,
    start: usize,
    count: usize,
    header: impl Fn(&mut Vec<u8>, u32) -> Result<T, V>,
) -> Result<(), E> {
    let mut head = Vec::with_capacity(HEADER_BYTES);
    let count = u32::try_from(count).map_err(|_| E::custom("too many elements"))?;
    written(header(&mut head, count))?;
    // Elements begin where room was left for the longest header.
    out.drain(start + head.len()..start + HEADER_BYTES);
    out[start..start + head.len()].copy_from_slice(&head);
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded_by(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    }

    /// Values of every kind, as we write them, that JSON knows apart.
    pub(in super::super) fn values() -> impl Strategy<Value = Vec<u8>> {
        use encode::*;
        let text = |text: String| encoded_by(|out| drop(write_str(out, &text)));
        // The first byte is never that of a character.
        let bin = |mut bytes: Vec<u8>| {
            bytes.insert(0, 0xff);
            encoded_by(|out| drop(write_bin(out, &bytes)))
        };
        let float = |number: f64| encoded_by(|out| drop(write_f64(out, number)));
        let leaf = prop_oneof![
            Just(vec![0xc0]),
            any::<bool>().prop_map(|value| vec![0xc2 + u8::from(value)]),
            any::<u64>().prop_map(|number| encoded_by(|out| drop(write_uint(out, number)))),
            any::<i64>().prop_map(|number| encoded_by(|out| drop(write_sint(out, number)))),
            any::<f64>().prop_map(float),
            any::<String>().prop_map(text),
            "[\u{0}-\u{1f}]{0,200}".prop_map(text),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(bin),
            Just(vec![0xd4, 7, 1]),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..20).prop_map(|values| {
                let head = encoded_by(|out| drop(write_array_len(out, values.len() as u32)));
                [head, values.concat()].concat()
            });
            let key = prop_oneof![Just("base64".to_string()), ".{0,5}"];
            let entries = prop::collection::vec((key, inner), 0..5);
            let map = entries.prop_map(|entries| {
                encoded_by(|out| {
                    drop(write_map_len(out, entries.len() as u32));
                    for (key, value) in entries {
                        drop(write_str(out, &key));
                        out.extend(value);
                    }
                })
            });
            prop_oneof![list, map]
        })
    }

    fn through_json(value: &[u8]) -> Vec<u8> {
        let mut json = Vec::new();
        write(&mut json, value);
        serde_json::from_slice::<Value>(&json).expect("our own").0
    }

    proptest! {
        #[test]
        fn every_value_survives_json(value in values()) {
            prop_assert_eq!(through_json(&value), value);
        }

        #[test]
        fn rubbish_is_no_value_or_one_that_is_sound(json in "[\\[\\]{}\",:0-9a-z.-]{0,40}") {
            if let Ok(value) = serde_json::from_str::<Value>(&json) {
                prop_assert_eq!(value_bytes(&value.0), Some(value.0.len()));
            }
        }

        #[test]
        fn values_of_any_width_are_written(bytes in prop::collection::vec(any::<u8>(), 1..60)) {
            let Some(length) = value_bytes(&bytes) else { return Ok(()) };
            let value = through_json(&bytes[..length]);
            prop_assert_eq!(value_bytes(&value), Some(value.len()));
        }
    }

    #[test]
    fn what_json_does_not_know_goes_as_it_is() {
        let nan = encoded_by(|out| drop(encode::write_f64(out, f64::NAN)));
        let deep = [vec![0x91; 300], vec![1]].concat();
        for value in [&nan[..], &[0x81, 1, 2], &[0xd4, 7, 1], &deep] {
            let mut json = Vec::new();
            write(&mut json, value);
            assert!(json.starts_with(b"{\"messagepack\":"), "{value:x?}");
            assert_eq!(through_json(value), value);
        }
    }

    #[test]
    fn bytes_are_text_where_they_can_be_and_never_six_times_as_long() {
        let json = |bytes: &[u8]| {
            let mut json = Vec::new();
            write_bytes(&mut json, bytes);
            String::from_utf8(json).expect("text")
        };
        assert_eq!(json("olá\n".as_bytes()), "\"olá\\n\"");
        assert_eq!(json(b"\xff\x00"), "{\"base64\":\"/wA=\"}");
        assert!(json(&[1; 3000]).len() < 4100);
        assert_eq!(through_json(&[0xc4, 1, b'a']), [0xa1, b'a'], "bin is str");
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for json in [
            r#"{"base64":"?"}"#,
            r#"{"base64":7}"#,
            r#"{"base64":"","a":1}"#,
            r#"{"messagepack":"kQ=="}"#,
            r#"{"messagepack":"AQE="}"#,
        ] {
            assert!(serde_json::from_str::<Value>(json).is_err(), "{json}");
        }
    }
}
