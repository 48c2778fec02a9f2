//! `docs/protocol.md` names every message with its fields, as they are in the code, and its bytes are
//! those on the wire.

use std::collections::BTreeMap;
use std::fmt;

use mutirao::broker::{
    BrokerSays, BrokerTells, ClientSays, JobCounts, JobSettings, JobView, ServiceView, StatusView,
    WorkerTells, WorkerView,
};
use mutirao::pipeline::{JobId, Span};
use mutirao::wire::{Kind, Reader};
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

const TEXT: &str = include_str!("../../../docs/protocol.md");

/// Names as serde knows them: what is deserialised from it learns nothing, and tells what it is made
/// of.
#[derive(Debug)]
enum Names {
    Variants(&'static [&'static str]),
    Fields(&'static [&'static str]),
    None,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Names {}

impl serde::de::Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Names {
        Names::None
    }
}

/// Asks for the variants of an enum, or for the fields of one of them or of a struct.
struct Question(Option<&'static str>);

impl<'de> Deserializer<'de> for Question {
    type Error = Names;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names::None)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names::Fields(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Names> {
        match self.0 {
            None => Err(Names::Variants(variants)),
            Some(variant) => visitor.visit_enum(Variant(variant)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Variant(&'static str);

impl<'de> EnumAccess<'de> for Variant {
    type Error = Names;
    type Variant = Variant;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Variant), Names> {
        let name = StrDeserializer::new(self.0);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = Names;

    fn unit_variant(self) -> Result<(), Names> {
        Err(Names::None)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Names> {
        Err(Names::None)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Names> {
        Err(Names::None)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names::Fields(fields))
    }
}

fn fields<T: DeserializeOwned>(variant: Option<&'static str>) -> Vec<String> {
    match T::deserialize(Question(variant)) {
        Err(Names::Fields(fields)) => fields.iter().map(ToString::to_string).collect(),
        _ => panic!("{variant:?} has no named fields"),
    }
}

/// The messages of the code with their fields.
fn messages<T: DeserializeOwned>() -> BTreeMap<String, Vec<String>> {
    let Err(Names::Variants(variants)) = T::deserialize(Question(None)) else {
        panic!("no enum");
    };
    let each = |&name: &&'static str| (name.to_string(), fields::<T>(Some(name)));
    variants.iter().map(each).collect()
}

/// What stands in a table of the text: the first column is the message, the second has its fields.
fn described(heading: &str) -> BTreeMap<String, Vec<String>> {
    let section = TEXT.split(heading).nth(1).expect("the section");
    let section = section.split("\n#").next().expect("its end");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        (quoted(cells[1]).remove(0), quoted(cells[2]))
    };
    rows.map(row).collect()
}

fn quoted(cell: &str) -> Vec<String> {
    let parts = cell.split('`').skip(1).step_by(2);
    parts.map(str::to_string).collect()
}

#[test]
fn every_message_stands_in_the_description_with_every_field() {
    let says = "### From the broker to a client\n";
    let tells = "### From the broker to a worker\n";
    assert_eq!(described("### From a client\n"), messages::<ClientSays>());
    assert_eq!(described(says), messages::<BrokerSays>());
    assert_eq!(described("### From a worker\n"), messages::<WorkerTells>());
    assert_eq!(described(tells), messages::<BrokerTells>());
}

#[test]
fn what_is_in_the_messages_is_described_field_by_field() {
    for fields in [
        fields::<JobSettings>(None),
        fields::<JobCounts>(None),
        fields::<JobView>(None),
        fields::<StatusView>(None),
        fields::<WorkerView>(None),
        fields::<ServiceView>(None),
    ] {
        let list = format!("`[{}]`", fields.join(", "));
        assert!(TEXT.contains(&list), "{list}");
    }
}

/// The bytes of the `number`th example of frames.
fn example(number: usize) -> Vec<u8> {
    let mut blocks = TEXT.split("```text\n4d 55 54 31  ");
    let bytes = blocks.nth(number).and_then(|text| text.split('\n').next());
    let bytes = bytes.expect("an example").split_whitespace();
    let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
    b"MUT1".iter().copied().chain(bytes).collect()
}

#[test]
fn the_examples_are_as_the_code_reads_them() {
    let (tasks, outcomes) = (example(1), example(2));
    let mut reader = Reader::expect(&tasks, Kind::Submitted).expect("tasks");
    assert_eq!(reader.uint(), Ok(42));
    assert_eq!(reader.span(), Ok(Span { first: 0, count: 2 }));
    assert_eq!(reader.rest(), b"\xa1a\xa1b");
    let mut reader = Reader::expect(&outcomes, Kind::Worked).expect("outcomes");
    let header: Vec<u64> = (0..4).map(|_| reader.uint().expect("a number")).collect();
    assert_eq!(header, [7, 0, 2, 250]);
    assert_eq!(reader.rest(), b"\xc3\xa1A\xc2\x92\xa2no\xc4\x00");
    let (job, tasks) = (JobId(42), 1000);
    for (message, text) in [
        (
            ClientSays::Close { job, tasks },
            "81 a5 43 6c 6f 73 65 92 2a cd 03 e8",
        ),
        (ClientSays::Jobs {}, "81 a4 4a 6f 62 73 90"),
    ] {
        let bytes = rmp_serde::to_vec(&message).expect("plain");
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bytes.join(" "), text);
        assert!(TEXT.contains(&format!("`{text}`")), "{text}");
    }
}
