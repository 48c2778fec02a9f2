//! `mutirao chat server`: the hall behind its sockets.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use mutirao::machine::{Clock, Machine as _, Time};
use mutirao::stop::StopHandle;
use mutirao::transport::TransportError;
use mutirao::wait::{Sleeper, wait};
use mutirao::{Endpoint, OpenError, Pattern};

use super::hall::{Hall, HallOutput, HallStats, Limits};
use super::history::History;
use super::ways::{self, HallWay};
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::{self, GuardFlags, KeyFlag, TransportFlags};
use crate::signals::{Caught, Signal};

/// Run a chat server until stopped.
///
/// Rooms come and go with their members. The last messages of each are kept in memory, and with --history
/// FILE on disk as well: started again with the same file, nobody misses anything.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mutirao chat server\n  \
    mutirao chat server --transport tcp --pattern req-rep --history chat.jsonl\n  \
    mutirao chat server --bind tcp://0.0.0.0:5570 --curve-key keys/server.key --curve-allow keys/allow")]
pub(crate) struct ServerArgs {
    /// Where members connect; pub-sub and push-pull take the next port as well
    #[arg(long, env = "MUTIRAO_BIND", default_value = super::ENDPOINT, value_name = "ENDPOINT", value_parser = flags::endpoint)]
    bind: Endpoint,

    #[command(flatten)]
    transport: TransportFlags,

    /// How messages travel: pub-sub, push-pull or req-rep; the same for all members
    #[arg(
        long,
        env = "MUTIRAO_PATTERN",
        default_value = "pub-sub",
        value_name = "PATTERN"
    )]
    pattern: Pattern,

    /// Keep what is said in public in this file, and begin with what it holds
    #[arg(long, env = "MUTIRAO_HISTORY", value_name = "FILE")]
    history: Option<PathBuf>,

    /// Messages that a member may send in a second, on average; twice as many at once
    #[arg(long, env = "MUTIRAO_RATE", default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    guard: GuardFlags,
}

pub(crate) fn run(args: ServerArgs) -> Result<(), Exit> {
    let security = flags::security(&args.key, None, Some(&args.guard))?;
    let endpoint = args.transport.apply(&args.bind)?;
    let caught = Caught::begin()?;
    let way = ways::listen(args.pattern, &endpoint, &security)?;
    let (hall, history) = found(&args)?;
    let (sleeper, waker) = Sleeper::new().map_err(OpenError::System)?;
    let stop = StopHandle::new(waker);
    log::info!(
        "chat at {}, by {}; {}",
        way.endpoint(),
        args.pattern,
        match &args.history {
            Some(path) => format!("what is said is kept in {}", path.display()),
            None => "what is said ends with it (--history FILE keeps it)".into(),
        }
    );
    let (tell, told) = std::sync::mpsc::channel();
    let stopper = stop.clone();
    caught.then(move |signal| {
        let _ = tell.send(signal);
        stopper.stop();
    });
    let mut server = Server {
        hall,
        history,
        way,
        clock: Clock::start(),
    };
    let ended = server.serve(&sleeper, &stop);
    ended.map_err(|error| Exit::from(OpenError::Transport(error)))?;
    server.say_goodbye();
    match told.try_recv() {
        Ok(Signal::Interrupt) => Err(Exit::Interrupted("the chat server was stopped".into())),
        _ => Ok(()),
    }
}

/// A hall that remembers its history.
fn found(args: &ServerArgs) -> Result<(Hall, Option<History>), Exit> {
    let limits = Limits {
        rate: args.rate,
        burst: args.rate.saturating_mul(2),
        ..Limits::default()
    };
    let incarnation = rand::random_range(1..u64::MAX / 2);
    let Some(path) = &args.history else {
        return Ok((
            Hall::new(args.pattern, limits, incarnation, incarnation),
            None,
        ));
    };
    let mut hall = Hall::new(args.pattern, limits, incarnation, 0);
    let (history, story) = History::open(path, |record| hall.remember(record))?;
    hall.set_story(story);
    Ok((hall, Some(history)))
}

struct Server {
    hall: Hall,
    history: Option<History>,
    way: Box<dyn HallWay>,
    clock: Clock,
}

impl Server {
    fn serve(&mut self, sleeper: &Sleeper, stop: &StopHandle) -> Result<(), TransportError> {
        while !stop.is_stopped() {
            let now = self.clock.now();
            self.hall.set_epoch(epoch_ms(now));
            let hall = &mut self.hall;
            let more = self
                .way
                .receive(&mut |peer, up| hall.handle(now, (peer, up)))?;
            self.hall.wake(now);
            self.obey()?;
            self.way.settle(now)?;
            if !more {
                let mut sources = Vec::new();
                self.way.interests(&mut sources);
                let due = [self.hall.deadline(), self.way.deadline()];
                wait(
                    &sources,
                    sleeper,
                    &self.clock,
                    due.into_iter().flatten().min(),
                );
            }
        }
        Ok(())
    }

    /// Does what the hall wants: first what is to be kept, then what is to be sent.
    fn obey(&mut self) -> Result<(), TransportError> {
        self.keep();
        let sends: Vec<HallOutput> = std::iter::from_fn(|| self.hall.poll()).collect();
        self.keep();
        sends.into_iter().try_for_each(|output| self.send(output))
    }

    fn keep(&mut self) {
        while let Some(record) = self.hall.poll_keep() {
            self.history
                .iter_mut()
                .for_each(|history| history.keep(record.clone()));
        }
        let history = self.history.as_mut();
        if let Some(Err(unwritten)) = history.map(History::write) {
            let records = unwritten.records.iter();
            records.for_each(|record| self.hall.unkept(record, &unwritten.reason));
        }
    }

    fn send(&mut self, output: HallOutput) -> Result<(), TransportError> {
        match output {
            HallOutput::Send(guest, packet) => self.way.send(guest, &packet),
            HallOutput::Publish(room, packet) => {
                let members = &mut self.hall.members_of(&room);
                self.way.publish(&room, members, &packet)
            }
            HallOutput::Forget(guest) => {
                self.way.forget(guest);
                Ok(())
            }
        }
    }

    fn say_goodbye(&self) {
        let members = counted(self.hall.len() as u64, "member");
        let trouble = trouble(&self.hall.stats(), self.way.dropped());
        log::info!("stopped with {members} present{trouble}");
    }
}

/// What did not go as it should, if anything: nobody wants to read of what did not happen.
fn trouble(stats: &HallStats, dropped: u64) -> String {
    let all = [
        (stats.refused, "message", "came too fast"),
        (stats.unkept, "message", "could not be kept"),
        (
            stats.fetches_refused,
            "request",
            "for old messages not answered",
        ),
        (stats.knocks_refused, "knock", "not answered"),
        (dropped, "packet", "for slow members found no room"),
        (stats.cut_off, "member", "read nothing and had to go"),
    ];
    let happened = all.into_iter().filter(|&(count, ..)| count > 0);
    happened
        .map(|(count, thing, fate)| format!("; {} {fate}", counted(count, thing)))
        .collect()
}

/// When the clock started, in milliseconds since 1970.
fn epoch_ms(now: Time) -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let started = wall
        .unwrap_or_default()
        .saturating_sub(now.since(Time::START));
    u64::try_from(started.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_told_at_the_end() {
        assert_eq!(trouble(&HallStats::default(), 0), "");
        let stats = HallStats {
            refused: 1,
            knocks_refused: 30,
            ..HallStats::default()
        };
        let expected = "; 1 message came too fast; 30 knocks not answered; 2 packets for slow members found no room";
        assert_eq!(trouble(&stats, 2), expected);
    }
}
