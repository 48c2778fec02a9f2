//! Objects as text, field by field.

use serde::Serialize;

/// What a message is, for those who read along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Presence; what is asked, and answered, about jobs; leases that are given back or called back.
    Beat,
    /// Somebody is ready to take something, or is asked to say so.
    Ready,
    /// Something is to be worked on.
    Process,
    /// What came of it, and that it has arrived.
    Result,
}

impl Type {
    const ALL: [Type; 4] = [Type::Beat, Type::Ready, Type::Process, Type::Result];

    pub(super) fn name(self) -> &'static str {
        match self {
            Type::Beat => "BEAT",
            Type::Ready => "READY",
            Type::Process => "PROCESS",
            Type::Result => "RESULT",
        }
    }

    pub(super) fn find(name: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|other| other.name() == name)
    }
}

/// An object that is being written.
pub(super) struct Object(Vec<u8>);

impl Object {
    /// A message, in room for so many bytes.
    pub(super) fn message(of: Type, bytes: usize) -> Object {
        let mut object = Object::with_buffer(Vec::with_capacity(bytes + 128));
        object.field("type", of.name());
        object
    }

    /// An object behind what the buffer holds already.
    pub(super) fn with_buffer(mut buffer: Vec<u8>) -> Object {
        buffer.push(b'{');
        Object(buffer)
    }

    /// Where the value of a field is to be written.
    pub(super) fn begin(&mut self, name: &str) -> &mut Vec<u8> {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.value(name);
        self.0.push(b':');
        &mut self.0
    }

    pub(super) fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.begin(name);
        self.value(value);
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        // Our own fields all have a form in JSON, and writing to memory does not fail.
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    /// A field of many objects.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Object, T),
    ) {
        self.begin(name).push(b'[');
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.0.push(b',');
            }
            let mut object = Object::with_buffer(std::mem::take(&mut self.0));
            write(&mut object, item);
            self.0 = object.finish();
        }
        self.0.push(b']');
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_in_the_order_in_which_they_were_given() {
        let mut object = Object::message(Type::Ready, 0);
        object.field("slots", &2);
        object.list("tasks", [1, 2], |object, number| {
            object.field("body", &number);
        });
        object.list("none", [0; 0], |_, _| {});
        let text = String::from_utf8(object.finish()).unwrap();
        assert_eq!(
            text,
            r#"{"type":"READY","slots":2,"tasks":[{"body":1},{"body":2}],"none":[]}"#
        );
    }
}
