//! Tasks and outcomes as fields of an object.
//!
//! A task or a result may be any value: it is the `body`. What `mutirao`'s own programs hand in also says
//! where its result belongs, and that is made readable: a task `[place, op, data, problem]` and a result
//! `[place, merge, data]`, where a place is `[name, input, piece, last]`, become fields of these names, with
//! the data as `body`. Whoever works on such a task gives the `place` back with the result.

use std::fmt;
use std::marker::PhantomData;

use rmp::encode;
use serde::de::{DeserializeOwned, Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::wire::value_bytes;

use super::JsonError;
use super::object::Object;
use super::value::{self, Value};

/// MessagePack's `true`, before a result, and `false`, before a failure.
const TRUE: u8 = 0xc3;
const FALSE: u8 = 0xc2;

/// How the pieces of an input become one, by their numbers in MessagePack.
const MERGES: [&str; 4] = ["text", "bytes", "counts", "number"];

/// Where a result belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    name: String,
    input: u32,
    piece: u64,
    last: bool,
}

impl Place {
    fn take(rest: &mut &[u8]) -> Option<Place> {
        (value::array(rest)? == 4).then_some(())?;
        Some(Place {
            name: value::text(rest)?.to_string(),
            input: rmp::decode::read_int(rest).ok()?,
            piece: rmp::decode::read_int(rest).ok()?,
            last: rmp::decode::read_bool(rest).ok()?,
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = encode::write_array_len(out, 4);
        let _ = encode::write_str(out, &self.name);
        let _ = encode::write_uint(out, u64::from(self.input));
        let _ = encode::write_uint(out, self.piece);
        let _ = encode::write_bool(out, self.last);
    }
}

/// Why fields make no task or outcome.
pub(super) type Wrong = &'static str;

/// What stands for a record.
pub(super) trait Fields: DeserializeOwned {
    /// Appends the record.
    fn put(self, out: &mut Vec<u8>) -> Result<(), Wrong>;
}

/// Records that were read one after the other, so that no more than one is ever held as fields.
pub(super) struct Packed<F> {
    pub(super) bytes: Vec<u8>,
    pub(super) count: usize,
    fields: PhantomData<F>,
}

impl<F: Fields> Packed<F> {
    fn none() -> Packed<F> {
        Packed {
            bytes: Vec::new(),
            count: 0,
            fields: PhantomData,
        }
    }

    fn add(&mut self, fields: F) -> Result<(), Wrong> {
        self.count += 1;
        fields.put(&mut self.bytes)
    }

    /// The one whose fields stand among those of a message.
    pub(super) fn one(json: &[u8]) -> Result<Packed<F>, JsonError> {
        let mut packed = Packed::none();
        let added = packed.add(serde_json::from_slice(json)?);
        added.map(|()| packed).map_err(JsonError::Field)
    }
}

impl<'de, F: Fields> Deserialize<'de> for Packed<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Packed<F>, D::Error> {
        deserializer.deserialize_seq(Packer(PhantomData))
    }
}

struct Packer<F>(PhantomData<F>);

impl<'de, F: Fields> Visitor<'de> for Packer<F> {
    type Value = Packed<F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Packed<F>, A::Error> {
        let mut packed = Packed::none();
        while let Some(fields) = list.next_element()? {
            packed.add(fields).map_err(A::Error::custom)?;
        }
        Ok(packed)
    }
}

/// What stands for a task.
#[derive(Debug, Deserialize)]
pub(super) struct TaskFields {
    place: Option<Place>,
    op: Option<String>,
    problem: Option<String>,
    #[serde(default, deserialize_with = "value::some")]
    body: Option<Value>,
}

/// A task that says where its result belongs.
struct Placed<'a> {
    place: Place,
    op: &'a str,
    data: &'a [u8],
    problem: Option<&'a str>,
}

impl<'a> Placed<'a> {
    /// `None` for any other value.
    fn read(mut rest: &'a [u8]) -> Option<Placed<'a>> {
        (value::array(&mut rest)? == 4).then_some(())?;
        let place = Place::take(&mut rest)?;
        let (op, data) = (value::text(&mut rest)?, value::bytes(&mut rest)?);
        let problem = match rest {
            [0xc0] => {
                rest = &[];
                None
            }
            _ => Some(value::text(&mut rest)?),
        };
        let placed = Placed {
            place,
            op,
            data,
            problem,
        };
        rest.is_empty().then_some(placed)
    }
}

/// Writes a task as fields.
pub(super) fn write_task(object: &mut Object, task: &[u8]) {
    let Some(placed) = Placed::read(task) else {
        return value::write(object.begin("body"), task);
    };
    object.field("place", &placed.place);
    object.field("op", placed.op);
    if let Some(problem) = placed.problem {
        object.field("problem", problem);
    }
    value::write_bytes(object.begin("body"), placed.data);
}

impl Fields for TaskFields {
    fn put(self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let body = self.body.ok_or("a task needs a body")?;
        let Some(place) = self.place else {
            out.extend_from_slice(&body.0);
            return Ok(());
        };
        let data = body
            .bytes()
            .ok_or("the body of a task with a place is text, or base64")?;
        let op = self.op.ok_or("a task with a place needs an op")?;
        // Writing to memory cannot fail.
        let _ = encode::write_array_len(out, 4);
        place.put(out);
        let _ = encode::write_str(out, &op);
        let _ = encode::write_bin(out, data);
        let _ = match self.problem {
            Some(problem) => encode::write_str(out, &problem).map(|_| ()).is_ok(),
            None => encode::write_nil(out).is_ok(),
        };
        Ok(())
    }
}

/// What stands for an outcome.
#[derive(Debug, Deserialize)]
pub(super) struct OutcomeFields {
    ok: bool,
    place: Option<Place>,
    merge: Option<String>,
    #[serde(default, deserialize_with = "value::some")]
    body: Option<Value>,
    error: Option<String>,
    context: Option<Value>,
}

/// Writes an outcome as fields; the rest behind it, or `None` if it is damaged.
pub(super) fn write_outcome<'a>(object: &mut Object, records: &'a [u8]) -> Option<&'a [u8]> {
    let (&is_ok, rest) = records.split_first()?;
    let (outcome, rest) = rest.split_at_checked(value_bytes(rest)?)?;
    object.field("ok", &(is_ok == TRUE));
    match is_ok {
        TRUE => write_result(object, outcome),
        FALSE => write_failure(object, outcome),
        _ => return None,
    }
    Some(rest)
}

fn write_result(object: &mut Object, result: &[u8]) {
    match read_piece(result) {
        Some((place, merge, data)) => {
            object.field("place", &place);
            object.field("merge", merge);
            value::write_bytes(object.begin("body"), data);
        }
        None => value::write(object.begin("body"), result),
    }
}

/// A result that says where it belongs.
fn read_piece(mut rest: &[u8]) -> Option<(Place, &'static str, &[u8])> {
    (value::array(&mut rest)? == 3).then_some(())?;
    let place = Place::take(&mut rest)?;
    let merge: usize = rmp::decode::read_int(&mut rest).ok()?;
    let (merge, data) = (*MERGES.get(merge)?, value::bytes(&mut rest)?);
    rest.is_empty().then_some((place, merge, data))
}

fn write_failure(object: &mut Object, failure: &[u8]) {
    let Some((reason, context)) = read_failure(failure) else {
        return value::write(object.begin("body"), failure);
    };
    object.field("error", reason);
    let mut rest = context;
    match Place::take(&mut rest).filter(|_| rest.is_empty()) {
        Some(place) => object.field("place", &place),
        None if context.is_empty() => {}
        None => drop(value::write_bytes(object.begin("context"), context)),
    }
}

fn read_failure(mut rest: &[u8]) -> Option<(&str, &[u8])> {
    (value::array(&mut rest)? == 2).then_some(())?;
    let failure = (value::text(&mut rest)?, value::bytes(&mut rest)?);
    rest.is_empty().then_some(failure)
}

impl OutcomeFields {
    /// Whether it is a failure, and why.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref().filter(|_| !self.ok)
    }

    fn put_result(self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let body = self.body.ok_or("a result needs a body")?;
        out.push(TRUE);
        let Some(place) = self.place else {
            out.extend_from_slice(&body.0);
            return Ok(());
        };
        let data = body
            .bytes()
            .ok_or("the body of a result with a place is text, or base64")?;
        let merge = self.merge.as_deref().unwrap_or(MERGES[0]);
        let merge = MERGES.iter().position(|name| *name == merge);
        let merge = merge.ok_or("merge is text, bytes, counts or number")?;
        // Writing to memory cannot fail.
        let _ = encode::write_array_len(out, 3);
        place.put(out);
        let _ = encode::write_uint(out, merge as u64);
        let _ = encode::write_bin(out, data);
        Ok(())
    }

    fn put_failure(self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        out.push(FALSE);
        let Some(reason) = self.error else {
            let body = self.body.ok_or("a failure needs an error")?;
            out.extend_from_slice(&body.0);
            return Ok(());
        };
        let mut context = Vec::new();
        match (self.place, &self.context) {
            (Some(place), _) => place.put(&mut context),
            (None, Some(value)) => {
                let bytes = value.bytes().ok_or("a context is text, or base64")?;
                context.extend_from_slice(bytes);
            }
            (None, None) => {}
        }
        // Writing to memory cannot fail.
        let _ = encode::write_array_len(out, 2);
        let _ = encode::write_str(out, &reason);
        let _ = encode::write_bin(out, &context);
        Ok(())
    }
}

impl Fields for OutcomeFields {
    fn put(self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        match self.ok {
            true => self.put_result(out),
            false => self.put_failure(out),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::value::tests::values;
    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        (".{0,20}", any::<u32>(), any::<u64>(), any::<bool>()).prop_map(
            |(name, input, piece, last)| Place {
                name,
                input,
                piece,
                last,
            },
        )
    }

    fn data() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            ".{0,40}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40)
        ]
    }

    /// Tasks with a place, and tasks without.
    pub(in super::super) fn tasks() -> impl Strategy<Value = Vec<u8>> {
        let placed = (place(), ".{0,9}", data(), prop::option::of(".{0,9}"));
        let placed = placed.prop_map(|(place, op, data, problem)| {
            let mut out = vec![0x94];
            place.put(&mut out);
            let _ = encode::write_str(&mut out, &op);
            let _ = encode::write_bin(&mut out, &data);
            match problem {
                Some(problem) => drop(encode::write_str(&mut out, &problem)),
                None => out.push(0xc0),
            }
            out
        });
        prop_oneof![placed, values()]
    }

    /// Outcomes of every kind.
    pub(in super::super) fn outcomes() -> impl Strategy<Value = Vec<u8>> {
        let piece = (place(), 0..5_u64, data()).prop_map(|(place, merge, data)| {
            let mut out = vec![TRUE, 0x93];
            place.put(&mut out);
            let _ = encode::write_uint(&mut out, merge);
            let _ = match merge {
                // No merge that has a name: any value, in which UTF-8 is str.
                4 => encode::write_str(&mut out, "x").is_ok(),
                _ => encode::write_bin(&mut out, &data).is_ok(),
            };
            out
        });
        let context = prop_oneof![
            place().prop_map(|place| {
                let mut context = Vec::new();
                place.put(&mut context);
                context
            }),
            data()
        ];
        let failure = (".{0,20}", context).prop_map(|(reason, context)| {
            let mut out = vec![FALSE, 0x92];
            let _ = encode::write_str(&mut out, &reason);
            let _ = encode::write_bin(&mut out, &context);
            out
        });
        let plain = (any::<bool>(), values())
            .prop_map(|(ok, value)| [vec![if ok { TRUE } else { FALSE }], value].concat());
        prop_oneof![piece, failure, plain]
    }

    fn object(write: impl FnOnce(&mut Object)) -> Vec<u8> {
        let mut object = Object::with_buffer(Vec::new());
        write(&mut object);
        object.finish()
    }

    proptest! {
        #[test]
        fn every_task_survives(task in tasks()) {
            let json = object(|object| write_task(object, &task));
            let mut out = Vec::new();
            serde_json::from_slice::<TaskFields>(&json).unwrap().put(&mut out).unwrap();
            prop_assert_eq!(out, task);
        }

        #[test]
        fn every_outcome_survives(outcome in outcomes()) {
            let json = object(|object| assert_eq!(write_outcome(object, &outcome), Some(&[][..])));
            let mut out = Vec::new();
            serde_json::from_slice::<OutcomeFields>(&json).unwrap().put(&mut out).unwrap();
            prop_assert_eq!(out, outcome);
        }
    }
}
