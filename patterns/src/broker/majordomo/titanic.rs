//! The services `titanic.*`, which keep requests until they are done and replies until they are fetched.
//!
//! | service | asked with | answered with |
//! | --- | --- | --- |
//! | `titanic.request` | service, body… | `200`, ticket |
//! | `titanic.reply` | ticket | `200`, body… once it is there; `300` while it is not; `400` unknown |
//! | `titanic.close` | ticket | `200`, whether or not it was known |
//!
//! All of them may answer `500`: the client should try again later. These frames are the body of an MDP
//! request or reply. Source: [RFC 9](https://rfc.zeromq.org/spec/9/).

mod ticket;

use super::{mmi, service_name};
use crate::transport::{Frame, Message};

pub use ticket::Ticket;

/// What the names of these services begin with.
pub const PREFIX: &str = "titanic.";

/// One of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// `titanic.request`.
    Request,
    /// `titanic.reply`.
    Reply,
    /// `titanic.close`.
    Close,
}

impl Service {
    /// The service of that name, if it is one of these.
    #[must_use]
    pub fn named(name: &str) -> Option<Service> {
        let all = [Service::Request, Service::Reply, Service::Close];
        all.into_iter().find(|service| service.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Service::Request => "titanic.request",
            Service::Reply => "titanic.reply",
            Service::Close => "titanic.close",
        }
    }
}

/// What a client asks; it borrows from the message.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// Keep this request, and have it done.
    Request {
        /// By which service.
        service: &'a str,
        /// At least one frame.
        body: &'a [Frame],
    },
    /// The reply to this one.
    Reply(Ticket),
    /// Nothing of this one is needed any more.
    Close(Ticket),
}

/// Why a body cannot be what the service is asked with.
///
/// The broker answers [`Answer::Unknown`] to each: of the codes that RFC 9 has it is the one after which
/// a client should not try again. It is the answer even of `titanic.close`, which says `200` to tickets
/// it does not know, but here was not given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAsk {
    /// There are fewer frames than there must be.
    #[error("the body has too few frames for this titanic service")]
    Short,
    /// A ticket is 32 hexadecimal digits, or the same with dashes.
    #[error("what should be a titanic ticket is none: send the UUID as it was given")]
    NoTicket,
    /// The service that shall do the request cannot have that name.
    #[error("titanic is asked for a service whose name cannot be: {0}")]
    BadService(#[from] super::BadName),
    /// The service that shall do the request is one that brokers answer themselves.
    #[error("titanic does not keep requests to mmi and titanic services: ask the broker")]
    Reserved,
}

/// Reads what one of the services is asked.
///
/// Frames after the ticket are ignored, as in the Guide.
///
/// # Errors
///
/// [`BadAsk`] says what is wrong; the answer to it is [`Answer::Unknown`].
pub fn read(service: Service, body: &[Frame]) -> Result<Asked<'_>, BadAsk> {
    let (first, rest) = body.split_first().ok_or(BadAsk::Short)?;
    let ticket = || Ticket::read(first).ok_or(BadAsk::NoTicket);
    match service {
        Service::Request => request_to(service_name(first)?, rest),
        Service::Reply => ticket().map(Asked::Reply),
        Service::Close => ticket().map(Asked::Close),
    }
}

fn request_to<'a>(service: &'a str, body: &'a [Frame]) -> Result<Asked<'a>, BadAsk> {
    // They could be kept for ever: nobody registers for them.
    if mmi::is_reserved(service) || service.starts_with(PREFIX) {
        return Err(BadAsk::Reserved);
    }
    if body.is_empty() {
        return Err(BadAsk::Short);
    }
    Ok(Asked::Request { service, body })
}

/// The body that asks to keep a request: service, body….
#[must_use]
pub fn request(service: &str, body: impl IntoIterator<Item = Frame>) -> Message {
    super::with_body(vec![Frame::from(service.as_bytes())], body)
}

/// The body that asks for a reply or closes a request: the ticket.
#[must_use]
pub fn about(ticket: Ticket) -> Message {
    vec![ticket.frame()]
}

/// What one of the services answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `200` with a ticket: the request is kept.
    Kept(Ticket),
    /// `200` with the body of the reply.
    Done(Message),
    /// `200`: nothing is kept of the request.
    Closed,
    /// `300`: there is no reply yet.
    Pending,
    /// `400`: no request has that ticket; the client should not try again.
    Unknown,
    /// `500`: the broker cannot do it now; the client should try again later.
    Failed,
}

impl Answer {
    /// The three digits.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Answer::Kept(_) | Answer::Done(_) | Answer::Closed => "200",
            Answer::Pending => "300",
            Answer::Unknown => "400",
            Answer::Failed => "500",
        }
    }

    /// The body of the reply: the digits, then the ticket or the body.
    ///
    /// RFC 9 would allow words after the digits; the Guide's clients compare the whole frame.
    #[must_use]
    pub fn body(self) -> Message {
        let mut body = vec![Frame::from(self.code().as_bytes())];
        match self {
            Answer::Kept(ticket) => body.push(ticket.frame()),
            Answer::Done(reply) => body.extend(reply),
            Answer::Closed | Answer::Pending | Answer::Unknown | Answer::Failed => {}
        }
        body
    }

    /// Reads the body of a reply of `service`; `None` if it is no answer of it.
    #[must_use]
    pub fn read(service: Service, body: &[Frame]) -> Option<Answer> {
        let (status, rest) = body.split_first()?;
        let (code, words) = status.split_at_checked(3)?;
        if !words.is_empty() && !words.starts_with(b" ") {
            return None;
        }
        match (code, service) {
            (b"200", Service::Request) => Ticket::read(rest.first()?).map(Answer::Kept),
            (b"200", Service::Reply) => Some(Answer::Done(rest.to_vec())),
            (b"200", Service::Close) => Some(Answer::Closed),
            (b"300", _) => Some(Answer::Pending),
            (b"400", _) => Some(Answer::Unknown),
            (b"500", _) => Some(Answer::Failed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
