//! What is different in a broker that works by request and reply: a job ends with the client that
//! opened it, and its results go nowhere else.
//!
//! A client may have two connections, one that hands in and one that fetches. Until the second is
//! there the job lives by the first; from then on by the second, and until the client has said that it
//! has all tasks, by both.

use crate::machine::Time;
use crate::pipeline::{JobId, PeerId};

use super::job::Job;
use super::machine::{BrokerMachine, Mode};
use super::protocol::{BrokerSays, Keeps, ResultsTo};

/// What the rest of a client hears when one of its connections is gone.
pub(super) const DESERTED: &str =
    "the client that handed it in is gone, and this broker keeps nothing: hand it in again";

/// What a client hears when another one begins the same job.
const TAKEN_OVER: &str = "another client has handed in the same job, and this broker keeps nothing for two: hand it in again when the other is done";

/// Why somebody else does not get the results.
const NOT_YOURS: &str = "its results go to the client that waits for them, and to nobody else: this broker works by request and reply";

/// Why a second client does not get the results of a sink's job.
const AT_A_SINK: &str = "another client is faster: a sink collects its results";

/// What clients of Titanic are told.
pub(super) const NO_TITANIC: &str =
    "this broker works by request and reply and keeps nothing: ask the service itself";

impl BrokerMachine {
    /// How long tasks and results are kept.
    pub(super) fn keeps(&self) -> Keeps {
        match self.limits.mode {
            Mode::RequestReply => Keeps::Nothing,
            Mode::LoadBalancing if self.durable => Keeps::Disk,
            Mode::LoadBalancing => Keeps::Memory,
        }
    }

    /// Ends a job that somebody else has opened under the same name: nothing of it is for this one.
    pub(super) fn take_over(&mut self, now: Time, peer: PeerId, id: JobId) {
        let opened = self.jobs.get(&id).filter(|job| job.asker.is_none());
        let by_another = opened.is_some_and(|job| job.submitter != Some(peer));
        if by_another && self.keeps() == Keeps::Nothing {
            self.end_job(now, id, TAKEN_OVER);
        }
    }

    /// Forgets a job, and tells those who wait for it why.
    pub(super) fn end_job(&mut self, now: Time, id: JobId, reason: &str) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let fetcher = job.fetcher.as_ref().map(|fetcher| fetcher.peer);
        let submitter = job.submitter.filter(|&peer| fetcher != Some(peer));
        self.drop_job(now, id);
        for peer in submitter.into_iter().chain(fetcher) {
            let reason = reason.to_string();
            self.say(peer, BrokerSays::Refused { job: id, reason });
        }
    }
}

impl Job {
    /// Whether nobody is left to whom the job belongs, now that whoever submitted or fetched is gone.
    pub(super) fn is_deserted(&self, submitter_gone: bool, fetcher_gone: bool) -> bool {
        let needs_submitter = self.fetcher.is_none() || self.total.is_none();
        fetcher_gone || submitter_gone && needs_submitter
    }

    /// Why this client does not get the results, if so.
    pub(super) fn why_not_fetch(&self, peer: PeerId, keeps: Keeps) -> Option<&'static str> {
        let other = self.fetcher.as_ref().is_some_and(|to| to.peer != peer);
        match (keeps, self.settings.results_to) {
            (Keeps::Nothing, _) if other && self.submitter != Some(peer) => Some(NOT_YOURS),
            (Keeps::Disk | Keeps::Memory, ResultsTo::Sink) if other => Some(AT_A_SINK),
            _ => None,
        }
    }
}
