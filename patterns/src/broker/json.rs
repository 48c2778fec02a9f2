//! Our own protocol as JSON: every message is one object that a person can read.
//!
//! ```text
//! {"type":"PROCESS","id":"18b1c0de00000001.3.06b714d29ee8c19e","operation":"uppercase","attempt":1,…,"body":"olá"}
//! {"type":"RESULT","id":"18b1c0de00000001.3.06b714d29ee8c19e","ok":true,"body":"OLÁ"}
//! ```
//!
//! It is a translation at the edge: [`write()`] makes an object of a frame, [`read`] a frame of an object. The
//! machines, and those who drive them, know nothing of it. `docs/protocol.md` describes the objects.

mod control;
mod id;
mod object;
mod record;
mod value;

use serde::Deserialize;

use crate::pipeline::{JobId, Span, WorkerId};
use crate::transport::Frame;
use crate::wire::{Kind, Reader, WireError, Writer, value_bytes};

use super::protocol::{BrokerSays, BrokerTells, ClientSays, Held, LeaseId, Takes, WorkerTells};
use control::Control;
use id::Id;
use object::{Object, Type};
use record::{OutcomeFields, Packed, TaskFields, Wrong, write_outcome, write_task};

/// How messages of our own protocol are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Compact, and not for people. A broker told so understands JSON as well, and answers each of its
    /// peers as it speaks.
    #[default]
    MessagePack,
    /// Every message is one JSON object. A broker told so refuses whoever speaks otherwise.
    Json,
}

impl Codec {
    /// How long a frame may be that says what takes so many bytes in MessagePack.
    pub(crate) fn frame_bytes(self, messagepack: usize) -> usize {
        match self {
            Codec::MessagePack => messagepack,
            // Base64 adds a third; names of fields stand beside each of many small records.
            Codec::Json => (messagepack / 3 * 4).saturating_add(FIELDS_BYTES),
        }
    }

    /// A frame as it travels to one who is that.
    pub(crate) fn outgoing(self, to: End, frame: Frame) -> Frame {
        match self {
            Codec::MessagePack => frame,
            // Our own frames are sound.
            Codec::Json => write(to, &frame).map_or(frame, Frame::from),
        }
    }
}

/// What the names of fields may add to a message.
const FIELDS_BYTES: usize = 4 << 20;

/// Who reads a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Broker,
    Client,
    Worker,
}

/// Why a message in JSON is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// No JSON, or no object with these fields.
    #[error("the message is no JSON object as it should be: {0}")]
    Object(String),
    /// A message that has no place here.
    #[error("a message of type {0:?} and what {1:?} has no place here")]
    Unexpected(String, String),
    /// Fields that do not fit each other.
    #[error("a field of the message makes no sense: {0}")]
    Field(Wrong),
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> JsonError {
        // It quotes what came.
        let text: String = error.to_string().chars().take(200).collect();
        JsonError::Object(text.escape_debug().to_string())
    }
}

/// A frame as it has arrived at one who is this, in whatever way it is written.
pub(crate) fn incoming(at: End, frame: Frame) -> Result<Frame, JsonError> {
    match is_json(&frame) {
        true => read(at, &frame).map(Frame::from),
        false => Ok(frame),
    }
}

/// Whether a frame is meant to be an object.
pub(crate) fn is_json(frame: &[u8]) -> bool {
    frame.first() == Some(&b'{')
}

/// Writes a frame as an object for `to`.
pub(crate) fn write(to: End, frame: &[u8]) -> Result<Vec<u8>, WireError> {
    let (kind, reader) = Reader::open(frame)?;
    match (to, kind) {
        (End::Broker, Kind::Client) => Ok(control::write::<ClientSays>(&reader.value()?)),
        (End::Broker, Kind::Worker) => Ok(control::write::<WorkerTells>(&reader.value()?)),
        (End::Client, Kind::Client) => Ok(control::write::<BrokerSays>(&reader.value()?)),
        (End::Worker, Kind::Worker) => Ok(control::write::<BrokerTells>(&reader.value()?)),
        (End::Broker, Kind::Submitted) => write_submitted(reader),
        (End::Broker, Kind::Asked) => write_asked(reader),
        (End::Broker, Kind::Worked) => write_worked(reader),
        (End::Client, Kind::Outcomes) => write_outcomes(reader),
        (End::Worker, Kind::Leased) => write_leased(reader),
        (_, other) => Err(WireError::Unexpected(other as u8)),
    }
}

fn write_submitted(mut reader: Reader<'_>) -> Result<Vec<u8>, WireError> {
    let (job, span) = (JobId(reader.uint()?), reader.span()?);
    let records = reader.rest();
    let mut object = Object::message(Type::Process, records.len());
    object.field("role", "client");
    object.field("job", &job);
    object.field("first", &span.first);
    object.list("tasks", split(records, span.count)?, write_task);
    Ok(object.finish())
}

fn write_asked(mut reader: Reader<'_>) -> Result<Vec<u8>, WireError> {
    let job = JobId(reader.uint()?);
    let (attempts, time_limit_ms) = (reader.uint32()?, reader.uint()?);
    let operation = reader.text()?;
    let task = reader.rest();
    let mut object = Object::message(Type::Process, task.len());
    object.field("role", "client");
    object.field("what", ASK);
    object.field("job", &job);
    object.field("operation", operation);
    object.field("attempts", &attempts);
    object.field("time_limit_ms", &time_limit_ms);
    write_task(&mut object, split(task, 1)?[0]);
    Ok(object.finish())
}

fn write_leased(mut reader: Reader<'_>) -> Result<Vec<u8>, WireError> {
    let (lease, job) = (reader.uint()?, JobId(reader.uint()?));
    let span = reader.span()?;
    let (attempt, attempts) = (reader.uint32()?, reader.uint32()?);
    let (time_limit_ms, operation) = (reader.uint()?, reader.text()?);
    let records = reader.rest();
    let mut object = Object::message(Type::Process, records.len());
    let job = Some(job);
    object.field("id", &Id { lease, span, job });
    object.field("operation", operation);
    object.field("attempt", &attempt);
    object.field("attempts", &attempts);
    object.field("time_limit_ms", &time_limit_ms);
    match &split(records, span.count)?[..] {
        [task] => write_task(&mut object, task),
        tasks => object.list("tasks", tasks, |object, task| write_task(object, task)),
    }
    Ok(object.finish())
}

fn write_worked(mut reader: Reader<'_>) -> Result<Vec<u8>, WireError> {
    let lease = reader.uint()?;
    let span = reader.span()?;
    let busy_us = reader.uint()?;
    let records = reader.rest();
    let mut object = Object::message(Type::Result, records.len());
    let job = None;
    object.field("id", &Id { lease, span, job });
    object.field("busy_us", &busy_us);
    match span.count {
        1 => match write_outcome(&mut object, records) {
            Some([]) => {}
            _ => return Err(WireError::Malformed),
        },
        count => list_outcomes(&mut object, records, count)?,
    }
    Ok(object.finish())
}

fn write_outcomes(mut reader: Reader<'_>) -> Result<Vec<u8>, WireError> {
    let (job, span) = (JobId(reader.uint()?), reader.span()?);
    let records = reader.rest();
    let mut object = Object::message(Type::Result, records.len());
    object.field("job", &job);
    object.field("first", &span.first);
    list_outcomes(&mut object, records, span.count)?;
    Ok(object.finish())
}

fn list_outcomes(object: &mut Object, records: &[u8], count: u32) -> Result<(), WireError> {
    let mut rest = Some(records);
    object.list("results", 0..count, |object, _| {
        rest = rest.and_then(|rest| write_outcome(object, rest));
    });
    match rest {
        Some([]) => Ok(()),
        _ => Err(WireError::Malformed),
    }
}

/// The records one by one.
fn split(mut records: &[u8], count: u32) -> Result<Vec<&[u8]>, WireError> {
    let mut parts = Vec::with_capacity((count as usize).min(records.len()));
    for _ in 0..count {
        let bytes = value_bytes(records).ok_or(WireError::Malformed)?;
        let (part, rest) = records.split_at(bytes);
        parts.push(part);
        records = rest;
    }
    match records {
        [] => Ok(parts),
        _ => Err(WireError::Malformed),
    }
}

/// What a request is called, as against tasks of a job.
const ASK: &str = "Ask";

/// What every message says first.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    of: String,
    what: Option<String>,
    role: Option<String>,
}

/// Reads an object that has arrived at `at`; the frame that says the same.
pub(crate) fn read(at: End, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let head: Head = serde_json::from_slice(json)?;
    let what = head.what.as_deref();
    let Some(of) = Type::find(&head.of) else {
        return Err(unexpected(&head.of, what));
    };
    match (at, head.role.as_deref()) {
        (End::Broker, Some("client")) => match (of, what) {
            (Type::Process, None) => read_submitted(json),
            (Type::Process, Some(ASK)) => read_asked(json),
            _ => read_control::<ClientSays>(Kind::Client, of, what, json),
        },
        (End::Broker, None | Some("worker")) => match (of, what) {
            (Type::Ready, None) => read_ready(json),
            (Type::Beat, None) => read_beat(json),
            (Type::Result, None) => read_worked(json),
            _ => read_control::<WorkerTells>(Kind::Worker, of, what, json),
        },
        (End::Broker, Some(_)) => Err(JsonError::Field("role is client or worker")),
        (End::Client, _) => match (of, what) {
            (Type::Result, None) => read_outcomes(json),
            _ => read_control::<BrokerSays>(Kind::Client, of, what, json),
        },
        (End::Worker, _) => match (of, what) {
            (Type::Process, None) => read_leased(json),
            _ => read_control::<BrokerTells>(Kind::Worker, of, what, json),
        },
    }
}

fn unexpected(of: &str, what: Option<&str>) -> JsonError {
    let short = |text: &str| text.chars().take(40).collect();
    JsonError::Unexpected(short(of), short(what.unwrap_or_default()))
}

fn read_control<T: Control>(
    kind: Kind,
    of: Type,
    what: Option<&str>,
    json: &[u8],
) -> Result<Vec<u8>, JsonError> {
    let name = what.or(T::plain(of));
    let name = name.filter(|name| T::type_of(name) == of);
    let name = name.ok_or_else(|| unexpected(of.name(), what))?;
    frame(kind, &control::read::<T>(name, json)?)
}

/// A control message in MessagePack.
fn frame<T: Control>(kind: Kind, message: &T) -> Result<Vec<u8>, JsonError> {
    let frame = Writer::new(kind).value(message).map(Writer::finish);
    frame.map_err(|_| JsonError::Field("it has no form in MessagePack"))
}

#[derive(Deserialize)]
struct Submitted {
    job: JobId,
    first: u64,
    tasks: Packed<TaskFields>,
}

fn read_submitted(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let Submitted { job, first, tasks } = serde_json::from_slice(json)?;
    let span = span(first, tasks.count)?;
    let writer = Writer::new(Kind::Submitted).uint(job.0).span(span);
    Ok(writer.records(&tasks.bytes).finish())
}

/// Consecutive tasks, as many as there are.
fn span(first: u64, count: usize) -> Result<Span, JsonError> {
    let count = u32::try_from(count).unwrap_or(0);
    let sound = count > 0 && first.checked_add(u64::from(count)).is_some();
    let sound = sound.then_some(Span { first, count });
    sound.ok_or(JsonError::Field("there is no task, or no number for it"))
}

#[derive(Deserialize)]
struct Asked {
    job: JobId,
    operation: String,
    #[serde(default = "one")]
    attempts: u32,
    #[serde(default)]
    time_limit_ms: u64,
}

fn one() -> u32 {
    1
}

fn read_asked(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let asked: Asked = serde_json::from_slice(json)?;
    let task = Packed::<TaskFields>::one(json)?;
    let writer = Writer::new(Kind::Asked)
        .uint(asked.job.0)
        .uint(u64::from(asked.attempts))
        .uint(asked.time_limit_ms)
        .text(&asked.operation);
    Ok(writer.records(&task.bytes).finish())
}

#[derive(Deserialize)]
struct Leased {
    id: Id,
    operation: String,
    attempt: u32,
    attempts: u32,
    time_limit_ms: u64,
    tasks: Option<Packed<TaskFields>>,
}

fn read_leased(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let leased: Leased = serde_json::from_slice(json)?;
    let tasks = match leased.tasks {
        Some(tasks) => tasks,
        None => Packed::one(json)?,
    };
    let Id { lease, span, job } = leased.id;
    let job = job.filter(|_| tasks.count == span.count as usize);
    let job = job.ok_or(JsonError::Field(
        "its id lacks the job, or names other tasks",
    ))?;
    let writer = Writer::new(Kind::Leased)
        .uint(lease)
        .uint(job.0)
        .span(span)
        .uint(u64::from(leased.attempt))
        .uint(u64::from(leased.attempts))
        .uint(leased.time_limit_ms)
        .text(&leased.operation);
    Ok(writer.records(&tasks.bytes).finish())
}

#[derive(Deserialize)]
struct Outcomes {
    job: JobId,
    first: u64,
    results: Packed<OutcomeFields>,
}

fn read_outcomes(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let Outcomes {
        job,
        first,
        results,
    } = serde_json::from_slice(json)?;
    let span = span(first, results.count)?;
    let writer = Writer::new(Kind::Outcomes).uint(job.0).span(span);
    Ok(writer.records(&results.bytes).finish())
}

/// A worker is ready, in our own words or in simpler ones.
#[derive(Deserialize)]
struct Ready {
    worker: Option<WorkerId>,
    name: Option<String>,
    operations: Vec<String>,
    #[serde(default = "one")]
    slots: u32,
    #[serde(default)]
    held: Vec<Held>,
    #[serde(default)]
    holding: Vec<Id>,
    #[serde(default = "takes_one")]
    takes: Takes,
}

/// Who does not know of batches knows one task at a time.
fn takes_one() -> Takes {
    Takes::One
}

fn read_ready(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut ready: Ready = serde_json::from_slice(json)?;
    for Id { lease, span, job } in ready.holding {
        let job = job.ok_or(JsonError::Field("holding lists ids as PROCESS had them"))?;
        ready.held.push(Held { lease, job, span });
    }
    let named = ready.name.as_deref().map(number_of).map(WorkerId);
    let worker = ready.worker.or(named);
    let tells = WorkerTells::Ready {
        worker: worker.ok_or(JsonError::Field("a worker needs a name that no other has"))?,
        slots: ready.slots,
        operations: ready.operations,
        held: ready.held,
        takes: ready.takes,
        name: ready.name,
    };
    frame(Kind::Worker, &tells)
}

/// A number for a name, by FNV-1a, which has no key: two starts of a broker agree about it.
fn number_of(name: &str) -> u64 {
    crate::fnv::hash(name.bytes())
}

#[derive(Deserialize)]
struct Beat {
    #[serde(default, with = "crate::hex")]
    seen: LeaseId,
    #[serde(default, with = "crate::hex::list")]
    held: Vec<LeaseId>,
    holding: Option<Vec<Id>>,
}

fn read_beat(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    #[derive(Deserialize)]
    struct Lists {
        held: Option<serde::de::IgnoredAny>,
        holding: Option<serde::de::IgnoredAny>,
    }
    let lists: Lists = serde_json::from_slice(json)?;
    if lists.held.is_none() && lists.holding.is_none() {
        // That it lives, and nothing of what it holds.
        let leases = Vec::new();
        return frame(Kind::Worker, &WorkerTells::Returned { leases });
    }
    let mut beat: Beat = serde_json::from_slice(json)?;
    let leases = beat.holding.into_iter().flatten().map(|id| id.lease);
    beat.held.extend(leases);
    let Beat { seen, held, .. } = beat;
    frame(Kind::Worker, &WorkerTells::Beat { seen, held })
}

#[derive(Deserialize)]
struct Worked {
    id: Id,
    #[serde(default)]
    busy_us: u64,
    /// Another attempt may help.
    #[serde(default)]
    retry: bool,
    results: Option<Packed<OutcomeFields>>,
}

fn read_worked(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let worked: Worked = serde_json::from_slice(json)?;
    let Id { lease, span, .. } = worked.id;
    let results = match worked.results {
        Some(results) => results,
        None if worked.retry => return read_failed(lease, span, json),
        None => Packed::one(json)?,
    };
    if results.count != span.count as usize {
        return Err(JsonError::Field(
            "there are not as many results as its id has tasks",
        ));
    }
    let writer = Writer::new(Kind::Worked).uint(lease).span(span);
    let writer = writer.uint(worked.busy_us);
    Ok(writer.records(&results.bytes).finish())
}

fn read_failed(lease: LeaseId, span: Span, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let outcome: OutcomeFields = serde_json::from_slice(json)?;
    let reason = outcome.error().filter(|_| span.count == 1);
    let failed = WorkerTells::Failed {
        lease,
        task: span.first,
        reason: reason.ok_or(JsonError::Field(RETRY))?.to_string(),
    };
    frame(Kind::Worker, &failed)
}

const RETRY: &str = "retry goes with the error of one task";

#[cfg(test)]
mod tests;
