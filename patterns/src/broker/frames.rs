//! Our own protocol as frames: what the driver of broker, client and worker read and write.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::pipeline::{JobId, PeerId, Span};
use crate::transport::Frame;
use crate::wire::{Kind, Reader, WireError, Writer};

use super::json::{self, End, JsonError};
use super::leaseholder::Leased;
use super::machine::{BrokerInput, Grant};
use super::piece::Slice;
use super::protocol::{BrokerSays, BrokerTells, ClientSays, JobSettings, WorkerTells};

/// Why a frame cannot be read, in whatever way it is written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// What a header takes at most.
const HEADER_BYTES: usize = 96;

/// A control message of this kind.
pub(super) fn control<T: Serialize>(kind: Kind, message: &T) -> Frame {
    // Our own messages hold nothing that MessagePack cannot express.
    let frame = Writer::new(kind).value(message).map(Writer::finish);
    frame.unwrap_or_default().into()
}

/// Reads a frame that a broker receives from `peer`.
pub(super) fn read_at_broker(peer: PeerId, frame: &[u8]) -> Result<BrokerInput, WireError> {
    let (kind, mut reader) = Reader::open(frame)?;
    match kind {
        Kind::Client => Ok(BrokerInput::Client(peer, reader.value::<ClientSays>()?)),
        Kind::Worker => Ok(BrokerInput::Worker(peer, reader.value::<WorkerTells>()?)),
        Kind::Submitted => Ok(BrokerInput::Submit {
            peer,
            job: JobId(reader.uint()?),
            span: reader.span()?,
            records: slice(reader.rest()),
        }),
        Kind::Worked => Ok(BrokerInput::Worked {
            peer,
            lease: reader.uint()?,
            span: {
                let (first, count) = (reader.uint()?, reader.uint32()?);
                Span { first, count }
            },
            busy: Duration::from_micros(reader.uint()?),
            records: slice(reader.rest()),
        }),
        Kind::Asked => Ok(BrokerInput::Ask {
            peer,
            job: JobId(reader.uint()?),
            settings: Box::new(JobSettings {
                attempts: reader.uint32()?,
                time_limit_ms: reader.uint()?,
                ..JobSettings::new(reader.text()?)
            }),
            record: slice(reader.rest()),
        }),
        other => Err(WireError::Unexpected(other as u8)),
    }
}

/// A request for a broker.
pub(super) fn asked(job: JobId, settings: &JobSettings, record: &[u8]) -> Frame {
    let buffer = Vec::with_capacity(record.len() + settings.operation.len() + HEADER_BYTES);
    let writer = Writer::with_buffer(buffer, Kind::Asked)
        .uint(job.0)
        .uint(u64::from(settings.attempts))
        .uint(settings.time_limit_ms)
        .text(&settings.operation);
    writer.records(record).finish().into()
}

fn slice(bytes: &[u8]) -> Slice {
    Slice::from(Arc::from(bytes), 0)
}

/// Tasks for a worker.
pub(super) fn leased(grant: &Grant) -> Frame {
    let records = grant.records.bytes();
    let buffer = Vec::with_capacity(records.len() + grant.operation.len() + HEADER_BYTES);
    let writer = Writer::with_buffer(buffer, Kind::Leased)
        .uint(grant.lease)
        .uint(grant.job.0)
        .span(grant.span)
        .uint(u64::from(grant.attempt))
        .uint(u64::from(grant.attempts))
        .uint(grant.time_limit_ms)
        .text(&grant.operation);
    writer.records(records).finish().into()
}

/// Results for a client.
pub(super) fn outcomes(job: JobId, span: Span, records: &Slice) -> Frame {
    let buffer = Vec::with_capacity(records.len() + HEADER_BYTES);
    let writer = Writer::with_buffer(buffer, Kind::Outcomes);
    let writer = writer.uint(job.0).span(span).records(records.bytes());
    writer.finish().into()
}

/// What a worker receives.
pub(crate) enum AtWorker {
    Tells(BrokerTells),
    Leased(Leased<(Frame, usize)>),
    /// The broker wants nothing to do with us, for this reason.
    Refused(String),
}

/// Reads a frame that a worker receives; the body is the frame with where its records begin.
pub(crate) fn read_at_worker(frame: Frame) -> Result<AtWorker, FrameError> {
    let frame = json::incoming(End::Worker, frame)?;
    let (kind, mut reader) = Reader::open(&frame)?;
    match kind {
        // What a broker says to everybody whom it does not understand.
        Kind::Client => match reader.value::<BrokerSays>()?.refuses_all() {
            Some(reason) => Ok(AtWorker::Refused(reason.to_string())),
            None => Err(WireError::Unexpected(kind as u8).into()),
        },
        Kind::Worker => Ok(AtWorker::Tells(reader.value()?)),
        Kind::Leased => {
            let (lease, job) = (reader.uint()?, JobId(reader.uint()?));
            let span = reader.span()?;
            let (attempt, attempts) = (reader.uint32()?, reader.uint32()?);
            let limit_ms = reader.uint()?;
            let operation = reader.text()?.into();
            let start = frame.len() - reader.rest().len();
            Ok(AtWorker::Leased(Leased {
                lease,
                job,
                span,
                attempt,
                attempts,
                time_limit: (limit_ms > 0).then_some(Duration::from_millis(limit_ms)),
                operation,
                body: (frame, start),
            }))
        }
        other => Err(WireError::Unexpected(other as u8).into()),
    }
}

/// What a client receives.
pub(super) enum AtClient {
    Says(BrokerSays),
    Outcomes(JobId, Span, Slice),
}

/// Reads a frame that a client receives.
pub(super) fn read_at_client(frame: Frame) -> Result<AtClient, FrameError> {
    let frame = json::incoming(End::Client, frame)?;
    let (kind, mut reader) = Reader::open(&frame)?;
    match kind {
        Kind::Client => Ok(AtClient::Says(reader.value()?)),
        Kind::Outcomes => {
            let job = JobId(reader.uint()?);
            let span = reader.span()?;
            Ok(AtClient::Outcomes(job, span, slice(reader.rest())))
        }
        other => Err(WireError::Unexpected(other as u8).into()),
    }
}
