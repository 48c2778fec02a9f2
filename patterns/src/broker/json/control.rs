//! Control messages as objects: `what` is the message's name, the other fields are its own.

use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::broker::protocol::{BrokerSays, BrokerTells, ClientSays, WorkerTells};

use super::object::{Object, Type};

/// The messages of one direction.
pub(super) trait Control: Serialize + DeserializeOwned {
    /// Whether the sender has to say that it is a client, which is otherwise clear from who reads.
    const FROM_CLIENT: bool = false;

    /// The type of the message of this name.
    fn type_of(what: &str) -> Type;

    /// The message of a type that needs no name.
    fn plain(of: Type) -> Option<&'static str>;
}

impl Control for ClientSays {
    const FROM_CLIENT: bool = true;

    fn type_of(what: &str) -> Type {
        match what {
            "Open" | "Close" => Type::Process,
            "Fetch" => Type::Ready,
            "Safe" => Type::Result,
            _ => Type::Beat,
        }
    }

    fn plain(of: Type) -> Option<&'static str> {
        match of {
            Type::Beat => Some("Beat"),
            Type::Ready => Some("Fetch"),
            Type::Result => Some("Safe"),
            Type::Process => None,
        }
    }
}

impl Control for BrokerSays {
    fn type_of(what: &str) -> Type {
        match what {
            "Resume" => Type::Ready,
            "Complete" => Type::Result,
            _ => Type::Beat,
        }
    }

    fn plain(of: Type) -> Option<&'static str> {
        match of {
            Type::Beat => Some("Beat"),
            Type::Ready => Some("Resume"),
            Type::Result | Type::Process => None,
        }
    }
}

impl Control for WorkerTells {
    fn type_of(what: &str) -> Type {
        match what {
            "Ready" => Type::Ready,
            "Failed" => Type::Result,
            _ => Type::Beat,
        }
    }

    fn plain(of: Type) -> Option<&'static str> {
        match of {
            Type::Beat => Some("Beat"),
            Type::Ready => Some("Ready"),
            Type::Result | Type::Process => None,
        }
    }
}

impl Control for BrokerTells {
    fn type_of(what: &str) -> Type {
        match what {
            "WhoAreYou" => Type::Ready,
            _ => Type::Beat,
        }
    }

    fn plain(of: Type) -> Option<&'static str> {
        match of {
            Type::Beat => Some("Beat"),
            Type::Ready => Some("WhoAreYou"),
            Type::Result | Type::Process => None,
        }
    }
}

/// Writes a message.
pub(super) fn write<T: Control>(message: &T) -> Vec<u8> {
    // Our own messages are objects of one entry, which is an object.
    let value = serde_json::to_value(message).unwrap_or_default();
    let entry = value.as_object().and_then(|object| object.iter().next());
    let (what, fields) = entry.map_or(("", None), |(what, fields)| (&**what, fields.as_object()));
    let of = T::type_of(what);
    let mut object = Object::message(of, 0);
    if T::FROM_CLIENT {
        object.field("role", "client");
    }
    if T::plain(of) != Some(what) {
        object.field("what", what);
    }
    for (name, value) in fields.into_iter().flatten() {
        object.field(name, value);
    }
    object.finish()
}

/// Reads the message of this name from the fields of an object; others are passed over.
pub(super) fn read<T: Control>(what: &str, json: &[u8]) -> Result<T, serde_json::Error> {
    T::deserialize(Named { what, json })
}

/// An enum whose variant stands beside its fields.
struct Named<'a> {
    what: &'a str,
    json: &'a [u8],
}

impl<'de> Deserializer<'de> for Named<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("no message"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Named<'de> {
    type Error = serde_json::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), Self::Error> {
        let name = StrDeserializer::<Self::Error>::new(self.what);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Named<'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Self::Error> {
        Err(Self::Error::custom("no message"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("no message"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let mut object = serde_json::Deserializer::from_slice(self.json);
        let message = (&mut object).deserialize_struct("message", fields, visitor)?;
        object.end().map(|()| message)
    }
}
