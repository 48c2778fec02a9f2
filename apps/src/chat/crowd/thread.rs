//! A thread with its share of the members.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mutirao::OpenError;
use mutirao::machine::{Machine as _, Time};
use mutirao::wait::{Sleeper, wait};

use super::member::Member;
use super::{Counted, Shared, histogram};
use crate::chat::guest::GuestInput;
use crate::chat::wire::Word;
use crate::exit::Exit;

/// How often a thread looks what the others do.
const GLANCE: Duration = Duration::from_millis(20);

/// How long goodbyes may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// Drives every `threads`-th member from `index` on, until all is over.
pub(super) fn run(shared: &Shared, index: usize, threads: usize) -> Result<Counted, Exit> {
    let (sleeper, _waker) = Sleeper::new().map_err(OpenError::System)?;
    let indices = (0..shared.members).skip(index).step_by(threads);
    let members: Result<Vec<_>, _> = indices.map(|index| Member::new(shared, index)).collect();
    let mut thread = Thread {
        shared,
        members: members?,
        phase: Phase::Coming { ready: 0 },
        counted: Counted {
            delivered: 0,
            disordered: 0,
            latencies_us: histogram(),
        },
    };
    thread.drive(&sleeper)?;
    let Thread {
        members,
        mut counted,
        ..
    } = thread;
    counted.delivered = members.iter().map(|member| member.delivered).sum();
    counted.disordered = members.iter().map(|member| member.disordered).sum();
    Ok(counted)
}

enum Phase {
    /// So many of ours are in the room.
    Coming {
        ready: usize,
    },
    Talking {
        start: Time,
    },
    /// Hearing the rest.
    Quiet,
    Satisfied,
    Leaving {
        by: Time,
    },
}

struct Thread<'a> {
    shared: &'a Shared,
    members: Vec<Member>,
    phase: Phase,
    counted: Counted,
}

impl Thread<'_> {
    fn drive(&mut self, sleeper: &Sleeper) -> Result<(), Exit> {
        loop {
            let now = self.shared.clock.now();
            let mut more = false;
            for member in &mut self.members {
                let turned = member.turn(self.shared, now, &mut self.counted.latencies_us);
                more |= turned?;
                if let Some(reason) = member.refused() {
                    return Err(Exit::Environment(reason));
                }
            }
            let speak = self.go_on(now);
            if self.is_over(now) {
                return Ok(());
            }
            if !more {
                self.wait(sleeper, now, speak);
            }
        }
    }

    fn wait(&self, sleeper: &Sleeper, now: Time, speak: Option<Time>) {
        let mut sources = Vec::with_capacity(self.members.len() * 4);
        let mut due = speak.unwrap_or(now + GLANCE).min(now + GLANCE);
        for member in &self.members {
            member.way.interests(&mut sources);
            let deadlines = [member.guest.deadline(), member.way.deadline()];
            due = deadlines.into_iter().flatten().fold(due, Time::min);
        }
        wait(&sources, sleeper, &self.shared.clock, Some(due));
    }

    /// Does what the phase asks for; when something is due.
    fn go_on(&mut self, now: Time) -> Option<Time> {
        let shared = self.shared;
        if shared.stop.load(Ordering::SeqCst) && !matches!(self.phase, Phase::Leaving { .. }) {
            let members = self.members.iter_mut();
            members.for_each(|member| member.guest.handle(now, GuestInput::Word(Word::Leave)));
            self.phase = Phase::Leaving { by: now + GOODBYE };
        }
        match self.phase {
            Phase::Coming { ready } => self.come(ready),
            Phase::Talking { start } => return self.talk(start, now),
            Phase::Quiet => self.listen(),
            Phase::Satisfied | Phase::Leaving { .. } => {}
        }
        None
    }

    fn come(&mut self, before: usize) {
        let members = self.members.iter();
        let ready = members.filter(|it| it.guest.has_said_and_heard_all());
        let ready = ready.count().max(before);
        self.shared
            .ready
            .fetch_add(ready - before, Ordering::SeqCst);
        self.phase = match self.shared.start_ns.load(Ordering::SeqCst) {
            0 => Phase::Coming { ready },
            ns => Phase::Talking {
                start: Time::START + Duration::from_nanos(ns),
            },
        };
    }

    fn talk(&mut self, start: Time, now: Time) -> Option<Time> {
        let mut next = None;
        for member in &mut self.members {
            let due = member.speak(self.shared, start, now);
            next = next.into_iter().chain(due).min();
        }
        if start + self.shared.talk <= now || next.is_none() {
            let said = self.members.iter().map(Member::said).sum();
            self.shared.said.fetch_add(said, Ordering::SeqCst);
            self.shared.quiet.fetch_add(1, Ordering::SeqCst);
            self.phase = Phase::Quiet;
        }
        // A member with too much to say is asked again soon.
        next.map(|next| next.max(now + Duration::from_millis(1)))
    }

    fn listen(&mut self) {
        let all = self.shared.said.load(Ordering::SeqCst);
        let complete = |member: &Member| member.delivered >= all;
        let quiet = self.shared.quiet.load(Ordering::SeqCst);
        if quiet == self.shared.threads && self.members.iter().all(complete) {
            self.shared.satisfied.fetch_add(1, Ordering::SeqCst);
            self.phase = Phase::Satisfied;
        }
    }

    fn is_over(&self, now: Time) -> bool {
        let Phase::Leaving { by } = self.phase else {
            return false;
        };
        by <= now || self.members.iter().all(|member| member.guest.is_over())
    }
}
