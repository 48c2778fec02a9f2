//! One simulated member: a guest with its sockets, and what it has got.

use std::time::Duration;

use hdrhistogram::Histogram;
use mutirao::OpenError;
use mutirao::machine::{Machine as _, Time};
use mutirao::transport::TransportError;

use super::{APART, Shared};
use crate::chat::guest::{Guest, GuestConfig, GuestInput, GuestOutput, News};
use crate::chat::ways::{self, GuestWay};
use crate::chat::wire::{Event, Session, Word};
use crate::exit::Exit;

/// A member of the crowd.
pub(super) struct Member {
    pub(super) guest: Guest,
    pub(super) way: Box<dyn GuestWay>,
    session: Session,
    index: u32,
    /// Messages that it has said, and the time of the next one.
    said: u64,
    /// How many messages of each member it has got.
    got: Vec<u32>,
    pub(super) delivered: u64,
    pub(super) disordered: u64,
    refused: Option<String>,
}

impl Member {
    pub(super) fn new(shared: &Shared, index: u32) -> Result<Member, Exit> {
        let session = Session(rand::random());
        let config = GuestConfig {
            session,
            pattern: shared.address.pattern,
            name: format!("{}-{index}", shared.prefix),
            room: shared.room.clone(),
            last: 0,
            patient: !shared.flood,
        };
        Ok(Member {
            guest: Guest::new(config, shared.clock.now() + APART * index),
            way: ways::connect(&shared.address, session)?,
            session,
            index,
            said: 0,
            got: vec![0; shared.members as usize],
            delivered: 0,
            disordered: 0,
            refused: None,
        })
    }

    /// When it says its next message; members speak in turn.
    fn next(&self, shared: &Shared, start: Time) -> Time {
        let number = u64::from(self.index) + self.said * u64::from(shared.members);
        start + Duration::from_secs(1).mul_f64(number as f64 / f64::from(shared.rate))
    }

    /// Says what is due since `start`; when more is.
    pub(super) fn speak(&mut self, shared: &Shared, start: Time, now: Time) -> Option<Time> {
        let end = start + shared.talk;
        loop {
            let due = self.next(shared, start);
            if due >= end || due > now || !self.guest.has_room() {
                return Some(due).filter(|&due| due < end);
            }
            let sent_us = now.since(Time::START).as_micros();
            let text = format!("{} {} {} {sent_us}", shared.prefix, self.index, self.said);
            self.guest.handle(now, GuestInput::Word(Word::Say(text)));
            self.said += 1;
        }
    }

    /// How much it has said.
    pub(super) fn said(&self) -> u64 {
        self.said
    }

    /// Receives, and does what the guest wants; whether there may be more at once.
    pub(super) fn turn(
        &mut self,
        shared: &Shared,
        now: Time,
        latencies_us: &mut Histogram<u64>,
    ) -> Result<bool, Exit> {
        let guest = &mut self.guest;
        let more = self
            .way
            .receive(&mut |packet| guest.handle(now, GuestInput::Packet(packet)))
            .map_err(failed)?;
        self.guest.wake(now);
        while let Some(output) = self.guest.poll() {
            match output {
                GuestOutput::Send(up) => self.way.send(&up).map_err(failed)?,
                GuestOutput::Listen(room) => self.way.listen(&room).map_err(failed)?,
                GuestOutput::Reconnect => {
                    self.way = ways::connect(&shared.address, self.session)?;
                }
                GuestOutput::Tell(News::Heard(line)) => {
                    if let Event::Said { text, .. } = line.event {
                        self.hear(shared, now, &text, latencies_us);
                    }
                }
                GuestOutput::Tell(News::Refused(reason)) => self.refused = Some(reason),
                GuestOutput::Tell(_) => {}
            }
        }
        self.way.settle(now).map_err(failed)?;
        Ok(more)
    }

    /// Why it was not let in.
    pub(super) fn refused(&mut self) -> Option<String> {
        self.refused.take().or_else(|| self.way.refusal())
    }

    /// Counts a message of this crowd.
    fn hear(&mut self, shared: &Shared, now: Time, text: &str, latencies_us: &mut Histogram<u64>) {
        let Some((sender, number, sent_us)) = parse(text, &shared.prefix) else {
            return;
        };
        let Some(got) = self.got.get_mut(sender) else {
            return;
        };
        if u64::from(*got) == number {
            *got += 1;
            self.delivered += 1;
        } else {
            self.disordered += 1;
        }
        let now_us = now.since(Time::START).as_micros() as u64;
        latencies_us.saturating_record(now_us.saturating_sub(sent_us));
    }
}

fn failed(error: TransportError) -> Exit {
    Exit::from(OpenError::Transport(error))
}

/// Who said it, which of theirs it is, and when, in microseconds.
fn parse(text: &str, prefix: &str) -> Option<(usize, u64, u64)> {
    let mut words = text.strip_prefix(prefix)?.split_whitespace();
    let sender = words.next()?.parse().ok()?;
    Some((
        sender,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
    ))
}
