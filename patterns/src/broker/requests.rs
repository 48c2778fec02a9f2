//! Requests of Majordomo clients: each is a job of one task, whose result goes straight back. What
//! Titanic keeps is a job like any other, and what MMI is asked is answered on the spot.

use std::sync::Arc;

use crate::machine::Time;
use crate::pipeline::{JobId, PeerId, Span};
use crate::transport::Frame;

use super::assign::Line;
use super::bodies;
use super::machine::{BrokerMachine, BrokerOutput};
use super::majordomo::titanic::{self, Asked, Ticket};
use super::majordomo::{Version, mmi};
use super::piece::{Piece, Slice, holds};
use super::protocol::{BrokerSays, JobSettings, Keeps};
use super::synchronous;

/// MessagePack's `true`, before a result.
const TRUE: u8 = 0xc3;

/// The only task of a request.
const ONLY: Span = Span { first: 0, count: 1 };

/// Who waits for the result of a request.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) peer: PeerId,
    /// `None` for one that speaks our own protocol.
    pub(super) version: Option<Version>,
}

/// What Titanic has promised, and says when it is safe.
#[derive(Debug)]
pub(super) struct Pledge {
    pub(super) write: u64,
    pub(super) asker: Asker,
    part: titanic::Service,
    answer: titanic::Answer,
}

impl BrokerMachine {
    /// A Majordomo client asks a service.
    pub(super) fn request(&mut self, now: Time, asker: Asker, service: &str, record: Slice) {
        self.greet_client(now, asker.peer);
        if mmi::is_reserved(service) {
            let body = bodies::frames(record.bytes());
            let answer = mmi::answer(service, &body, |name| self.is_served(name));
            return self.answer(&asker, service, &[answer.frame()]);
        }
        if let Some(part) = titanic::Service::named(service) {
            if self.keeps() == Keeps::Nothing {
                let mut body = titanic::Answer::Failed.body();
                body.push(Frame::from(synchronous::NO_TITANIC.as_bytes()));
                return self.answer(&asker, service, &body);
            }
            let body = bodies::frames(record.bytes());
            return self.ask_titanic(now, asker, part, &body);
        }
        let settings = JobSettings::new(service);
        let id = self.free_id();
        if self
            .start_request(now, id, settings, record, Some(asker))
            .is_err()
        {
            // Majordomo has no word for it; the client asks again.
            self.counts.refused += 1;
        }
    }

    /// A client of our own protocol asks an operation; the same again is harmless.
    pub(super) fn ask(
        &mut self,
        now: Time,
        peer: PeerId,
        id: JobId,
        settings: JobSettings,
        record: Slice,
    ) {
        self.greet_client(now, peer);
        if !holds(record.bytes(), 1) {
            self.counts.malformed += 1;
            return;
        }
        let refused = match self.jobs.get_mut(&id).map(|job| &mut job.asker) {
            Some(Some(asker)) if asker.version.is_none() => {
                asker.peer = peer;
                return;
            }
            Some(_) => Some(format!("job {id} exists: choose another id")),
            None => self.check_settings(id, &settings).err(),
        };
        let asker = Asker {
            peer,
            version: None,
        };
        let refused = refused.or_else(|| {
            self.start_request(now, id, settings, record, Some(asker))
                .err()
        });
        if let Some(reason) = refused {
            self.say(peer, BrokerSays::Refused { job: id, reason });
        }
    }

    /// A client still waits for a reply, maybe over another connection.
    pub(super) fn await_reply(&mut self, peer: PeerId, id: JobId) {
        match self.jobs.get_mut(&id).and_then(|job| job.asker.as_mut()) {
            Some(asker) if asker.version.is_none() => asker.peer = peer,
            _ => self.say(peer, BrokerSays::Unknown { job: id }),
        }
    }

    fn is_served(&self, name: &str) -> bool {
        titanic::Service::named(name).is_some() && self.keeps() != Keeps::Nothing
            || self
                .services
                .get(name)
                .is_some_and(|service| service.workers > 0)
    }

    /// An id that no job has; those of clients are drawn at random, so that they do not meet.
    fn free_id(&mut self) -> JobId {
        loop {
            self.turns += 1;
            let id = JobId(self.turns | 1 << 63);
            if !self.jobs.contains_key(&id) {
                return id;
            }
        }
    }

    /// Makes a job of one task.
    ///
    /// # Errors
    ///
    /// The reason why there is no room for it.
    fn start_request(
        &mut self,
        now: Time,
        id: JobId,
        settings: JobSettings,
        record: Slice,
        asker: Option<Asker>,
    ) -> Result<(), String> {
        if let Some(reason) = self.too_large(record.len()) {
            return Err(reason);
        }
        if self.has_too_many_jobs() {
            return Err("the broker has as many jobs as it takes: try again later".into());
        }
        self.add_job(now, id, settings);
        // What is not kept needs no store.
        let refused = match asker.is_some() {
            true => self.full(id, ONLY, record.len()),
            false => self.no_room(id, ONLY, record.len()),
        };
        if let Some(reason) = refused {
            self.remove_request(id);
            return Err(reason);
        }
        let is_kept = asker.is_none();
        // One that speaks our protocol says that it waits.
        let silent = asker.as_ref().filter(|asker| asker.version.is_some());
        if let Some(client) = silent.and_then(|asker| self.clients.get_mut(&asker.peer)) {
            client.asking += 1;
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.asker = asker;
            job.total = Some(1);
            job.accepted.insert(ONLY.range());
        }
        if is_kept {
            self.describe(id);
            self.write_tasks(id, ONLY, &record);
        }
        self.enqueue(now, id, vec![Piece::new(ONLY, record)], Line::Fresh);
        Ok(())
    }

    fn remove_request(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        if let Some(service) = self.services.get_mut(&job.operation) {
            service.jobs -= 1;
        }
        self.tidy(&job.operation);
    }

    /// Sends the result of a request to whoever waits for it, and forgets the request; `false` when
    /// the job is none.
    pub(super) fn reply(&mut self, id: JobId, outcome: &Slice) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        let Some(asker) = job.asker.take() else {
            return false;
        };
        let (peer, service) = (asker.peer, job.operation.clone());
        self.outbox.push_back(match asker.version {
            Some(version) => BrokerOutput::Reply {
                peer,
                version,
                service,
                body: reply_body(outcome.bytes()),
            },
            None => BrokerOutput::Results {
                peer,
                job: id,
                span: ONLY,
                records: outcome.clone(),
            },
        });
        self.note_answered(peer, asker.version);
        self.remove_request(id);
        true
    }

    /// A client waits for one reply less.
    pub(super) fn note_answered(&mut self, peer: PeerId, version: Option<Version>) {
        // One that speaks our protocol says by itself that it waits.
        let silent = version.and_then(|_| self.clients.get_mut(&peer));
        if let Some(client) = silent {
            // Who was lost sight of in between begins with nothing.
            client.asking = client.asking.saturating_sub(1);
        }
    }

    /// Answers one that speaks Majordomo on the spot.
    fn answer(&mut self, asker: &Asker, service: &str, body: &[Frame]) {
        let Some(version) = asker.version else {
            return;
        };
        self.outbox.push_back(BrokerOutput::Reply {
            peer: asker.peer,
            version,
            service: service.into(),
            body: bodies::record(body),
        });
    }

    fn ask_titanic(&mut self, now: Time, asker: Asker, part: titanic::Service, body: &[Frame]) {
        let answer = match titanic::read(part, body) {
            Ok(Asked::Request { service, body }) => {
                return self.promise(now, asker, service, bodies::record(body));
            }
            Ok(Asked::Reply(ticket)) => self.kept_reply(ticket),
            Ok(Asked::Close(ticket)) => {
                if self.is_titanic(ticket) {
                    self.drop_job(now, job_of(ticket));
                }
                return self.pledge(asker, part, titanic::Answer::Closed);
            }
            Err(_) => titanic::Answer::Unknown,
        };
        self.answer(&asker, part.name(), &answer.body());
    }

    /// Keeps a request, and says so when it is safe.
    fn promise(&mut self, now: Time, asker: Asker, service: &str, record: Slice) {
        let ticket = Ticket::from_random(self.random_bits());
        let settings = JobSettings {
            label: ticket.to_string(),
            ..JobSettings::new(service)
        };
        let id = job_of(ticket);
        let failed = self.trouble.is_some()
            || self.jobs.contains_key(&id)
            || self.start_request(now, id, settings, record, None).is_err();
        if failed {
            let body = titanic::Answer::Failed.body();
            return self.answer(&asker, titanic::Service::Request.name(), &body);
        }
        let part = titanic::Service::Request;
        self.pledge(asker, part, titanic::Answer::Kept(ticket));
    }

    /// Answers when everything written up to now is safe.
    fn pledge(&mut self, asker: Asker, part: titanic::Service, answer: titanic::Answer) {
        if let Some(client) = self.clients.get_mut(&asker.peer) {
            client.asking += 1;
        }
        self.pledges.push_back(Pledge {
            write: self.writes,
            asker,
            part,
            answer,
        });
        self.keep_pledges();
    }

    /// Answers those whose requests are safe by now.
    pub(super) fn keep_pledges(&mut self) {
        while let Some(pledge) = self.pledges.front()
            && (pledge.write <= self.stored || !self.durable)
            && let Some(pledge) = self.pledges.pop_front()
        {
            self.note_answered(pledge.asker.peer, pledge.asker.version);
            self.answer(&pledge.asker, pledge.part.name(), &pledge.answer.body());
        }
    }

    fn kept_reply(&self, ticket: Ticket) -> titanic::Answer {
        if !self.is_titanic(ticket) {
            return titanic::Answer::Unknown;
        }
        let job = self.jobs.get(&job_of(ticket));
        match job.and_then(|job| job.result_of(0)) {
            Some(outcome) => titanic::Answer::Done(bodies::frames(reply_body(outcome).bytes())),
            None => titanic::Answer::Pending,
        }
    }

    fn is_titanic(&self, ticket: Ticket) -> bool {
        let job = self.jobs.get(&job_of(ticket));
        job.is_some_and(|job| job.settings.label == ticket.to_string())
    }

    fn random_bits(&mut self) -> u128 {
        use rand::RngExt;
        self.rng.random()
    }
}

/// The id of the job that stands for a ticket.
fn job_of(ticket: Ticket) -> JobId {
    JobId(ticket.bits() as u64)
}

/// What a client is told: the result, or an empty frame and the reason why there is none.
fn reply_body(outcome: &[u8]) -> Slice {
    let value = outcome.get(1..).unwrap_or_default();
    if outcome.first() == Some(&TRUE) {
        return Slice::from(Arc::from(value), 0);
    }
    let failure = rmp_serde::from_slice::<crate::pipeline::TaskFailure>(value);
    let reason = failure.map_or_else(|_| "it failed".to_string(), |failure| failure.reason);
    bodies::record(&[Frame::from(&[][..]), Frame::from(reason.as_bytes())])
}
