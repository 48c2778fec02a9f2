//! Measures one cell: starts the parts, listens to them, ends them.

use std::path::Path;
use std::time::{Duration, Instant};

use mutirao::{Endpoint, StopHandle};

use super::contender::{Between, Contender};
use super::control::Order;
use super::helper::{Helper, Trouble};
use super::peer::{Flow, Part, Pings, Said, Way};
use super::plan::{Cell, Question};
use super::proxy::{Conditions, HELD_BACK, Injected};
use super::results::Values;
use super::statistics::Spread;
use super::usage::{Usage, monotonic_ns};

/// How long a part may take for what should take next to no time.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a peer that was killed may stay away, and a little more than the part itself waits.
const RETURN: Duration = Duration::from_secs(22);

/// After so long without an arrival, nothing more comes through a connection that has ended.
const QUIET: Duration = Duration::from_millis(2500);

/// The same for those that promise nothing.
pub(super) const QUIET_IF_LOSSY: Duration = Duration::from_millis(150);

/// Datagrams of reliable UDP where a path is in between: as it sends them to other machines. To loopback
/// addresses, as that of the proxy is one, they would be longer than any network carries whole.
const DATAGRAM_BYTES: usize = 1232;

/// Fewer arrivals than this do not tell how memory grows with them: what a process takes to begin with would be
/// stretched many times over.
const TELLING_ARRIVALS: u64 = 100_000;

/// How often connecting is tried in one measurement.
const CONNECTIONS: u32 = 5;

/// Measures; one for all cells.
pub(super) struct Bench<'a> {
    /// How long flows and round trips are measured.
    pub(super) window: Duration,
    /// Where sockets of the file system live.
    pub(super) folder: &'a Path,
    pub(super) stop: &'a StopHandle,
    /// Sets apart what belongs to one measurement; grows with each.
    pub(super) serial: u64,
}

impl Bench<'_> {
    /// Measures `cell` once; the luck of its path follows from `seed`.
    pub(super) fn measure(&mut self, cell: &Cell, seed: u64) -> Result<Values, Trouble> {
        self.serial += 1;
        match cell.question {
            Question::Throughput | Question::Delivery => self.flow(cell, seed),
            Question::RoundTrip => self.round_trip(cell, seed),
            Question::Connect => self.connect(cell.transport),
            Question::Recover => self.recover(cell.transport),
        }
    }

    fn endpoint(&self, transport: Contender) -> Result<String, Trouble> {
        Ok(transport.endpoint(self.folder, self.serial)?.to_string())
    }

    /// Starts a part that listens; where it does.
    fn listen(&self, part: &Part) -> Result<(Helper, String), Trouble> {
        let mut helper = Helper::start(part)?;
        match helper.hear(PATIENCE, self.stop)? {
            Said::Ready(at) => Ok((helper, at)),
            _ => Err(helper.unexpected()),
        }
    }

    fn flow(&self, cell: &Cell, seed: u64) -> Result<Values, Trouble> {
        let flow = self.flow_of(cell);
        let at = self.endpoint(cell.transport)?;
        let mut receiver = match cell.transport.is_one_process() {
            true => None,
            false => {
                let flow = flow.clone();
                Some(self.listen(&Part::Receive {
                    at: at.clone(),
                    flow,
                })?)
            }
        };
        let listens = receiver.as_ref().map_or(&at, |(_, listens)| listens);
        let mut path = self.lay_path(cell, listens, seed)?;
        let at = path.as_ref().map_or(listens, |(_, at)| at).clone();
        let mut sender = Helper::start(&Part::Send { at, flow })?;
        let patience = cell.window(self.window) + way(cell.path).drain() + PATIENCE;
        let Said::Sent(sent) = sender.hear(patience, self.stop)? else {
            return Err(sender.unexpected());
        };
        let teller = match &mut receiver {
            Some((receiver, _)) => {
                receiver.tell(Order::Sent(sent.messages));
                receiver
            }
            None => &mut sender,
        };
        let Said::Received(received) = teller.hear(patience, self.stop)? else {
            return Err(teller.unexpected());
        };
        let injected = self.end_path(&mut path)?;
        sender.tell(Order::End);
        let values = Tally { sent, received }.values(cell.size_bytes);
        Ok(with_path(values, injected))
    }

    fn flow_of(&self, cell: &Cell) -> Flow {
        let quiet = match cell.transport.is_complete() {
            true => QUIET,
            false => QUIET_IF_LOSSY,
        };
        let quiet = quiet + delay(cell.path) * 2 + HELD_BACK;
        Flow {
            size_bytes: cell.size_bytes,
            window_ms: milliseconds(cell.window(self.window)),
            pace: cell.pace(),
            promised: cell.transport.is_complete(),
            quiet_ms: milliseconds(quiet),
            way: way(cell.path),
            mark: monotonic_ns(),
        }
    }

    /// Puts a proxy before `target` where the cell asks for one; where that listens.
    fn lay_path(
        &self,
        cell: &Cell,
        target: &str,
        seed: u64,
    ) -> Result<Option<(Helper, String)>, Trouble> {
        let Some(conditions) = cell.path else {
            return Ok(None);
        };
        let part = Part::Proxy {
            datagrams: cell.transport.between() == Between::Datagrams,
            target: address(&parse(target)?)?,
            conditions,
            seed,
        };
        let (proxy, at) = self.listen(&part)?;
        let scheme = cell.transport.scheme().name();
        Ok(Some((proxy, format!("{scheme}://{at}"))))
    }

    fn end_path(&self, path: &mut Option<(Helper, String)>) -> Result<Option<Injected>, Trouble> {
        let Some((proxy, _)) = path else {
            return Ok(None);
        };
        proxy.tell(Order::End);
        match proxy.hear(PATIENCE, self.stop)? {
            Said::Passed(injected) => Ok(Some(injected)),
            _ => Err(proxy.unexpected()),
        }
    }

    /// An answering peer; none where the asking one brings its own.
    fn echo(
        &self,
        transport: Contender,
        mark: Option<u64>,
        way: Way,
    ) -> Result<(Option<Helper>, String), Trouble> {
        let at = self.endpoint(transport)?;
        if transport.is_one_process() {
            return Ok((None, at));
        }
        let (echo, at) = self.listen(&Part::Echo { at, mark, way })?;
        Ok((Some(echo), at))
    }

    fn round_trip(&self, cell: &Cell, seed: u64) -> Result<Values, Trouble> {
        let (_echo, listens) = self.echo(cell.transport, None, way(cell.path))?;
        let mut path = self.lay_path(cell, &listens, seed)?;
        let at = path.as_ref().map_or(&listens, |(_, at)| at).clone();
        let (window, way) = (cell.window(self.window), way(cell.path));
        let answers = patience_for_answers(cell);
        let pings = Pings {
            size_bytes: cell.size_bytes,
            window_ms: milliseconds(window),
            patience_ms: milliseconds(answers),
            pace: cell.pace(),
            way,
        };
        let mut asker = Helper::start(&Part::Ping { at, pings })?;
        let patience = way.connect() + window + answers + PATIENCE;
        let Said::Pinged(pinged) = asker.hear(patience, self.stop)? else {
            return Err(asker.unexpected());
        };
        let values = Values {
            round_trips: Some(pinged.answered),
            unanswered: Some(pinged.unanswered),
            p50_us: pinged.p50_us,
            p90_us: pinged.p90_us,
            p99_us: pinged.p99_us,
            p999_us: pinged.p999_us,
            max_us: pinged.max_us,
            ..Values::default()
        };
        Ok(with_path(values, self.end_path(&mut path)?))
    }

    fn connect(&self, transport: Contender) -> Result<Values, Trouble> {
        let (_echo, at) = self.echo(transport, None, Way::default())?;
        let times = CONNECTIONS;
        let mut asker = Helper::start(&Part::Connect { at, times })?;
        match asker.hear(PATIENCE * times, self.stop)? {
            Said::Connected(times_ms) => Ok(Values {
                connect_ms: Spread::of(times_ms).map(|spread| spread.median),
                ..Values::default()
            }),
            _ => Err(asker.unexpected()),
        }
    }

    fn recover(&self, transport: Contender) -> Result<Values, Trouble> {
        let (echo, at) = self.echo(transport, Some(1), Way::default())?;
        let mut watcher = Helper::start(&Part::Watch { at: at.clone() })?;
        let Said::Up = watcher.hear(PATIENCE, self.stop)? else {
            return Err(watcher.unexpected());
        };
        let killed = Instant::now();
        let killed_ns = monotonic_ns();
        drop(echo);
        let (mark, way) = (Some(2), Way::default());
        let (_echo, _) = self.listen(&Part::Echo { at, mark, way })?;
        let patience = RETURN.saturating_sub(killed.elapsed());
        match watcher.hear(patience, self.stop)? {
            Said::Back { at_ns } => Ok(Values {
                recover_ms: Some(at_ns.saturating_sub(killed_ns) as f64 / 1e6),
                ..Values::default()
            }),
            _ => Err(watcher.unexpected()),
        }
    }
}

fn delay(path: Option<Conditions>) -> Duration {
    path.map_or(Duration::ZERO, |path| path.delay())
}

/// What both ends have to know of it.
pub(super) fn way(path: Option<Conditions>) -> Way {
    path.map_or_else(Way::default, |path| Way {
        round_trip_ms: path.delay_ms * 2.0,
        datagram_bytes: Some(DATAGRAM_BYTES),
    })
}

/// Those that lose nothing are waited for; for the others a lost question shall not cost the whole time.
fn patience_for_answers(cell: &Cell) -> Duration {
    match cell.transport.is_complete() {
        true => way(cell.path).connect(),
        false => Duration::from_millis(100) + (delay(cell.path) + HELD_BACK) * 2,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn parse(text: &str) -> Result<Endpoint, Trouble> {
    let parsed = text.parse::<Endpoint>();
    parsed.map_err(|error| Trouble::Failed(error.to_string()))
}

fn address(endpoint: &Endpoint) -> Result<std::net::SocketAddr, Trouble> {
    let address = endpoint.address().parse();
    address.map_err(|_| Trouble::Failed(format!("{endpoint} is no address for a proxy")))
}

/// What sender and receiver told.
struct Tally {
    sent: super::peer::Sent,
    received: super::peer::Received,
}

impl Tally {
    fn values(&self, size_bytes: usize) -> Values {
        let Tally { sent, received } = self;
        // The time begins with the first arrival, so that one is not what it took time for.
        let delivered = rate(received.distinct.saturating_sub(1) as f64, received.seconds);
        let million = received.distinct as f64 / 1e6;
        let both: Usage = sent.usage + received.usage;
        // Within one process nobody can tell whose time it was.
        let apart = Some(million).filter(|_| received.usage != Usage::default());
        let grown = both
            .memory_peak_bytes
            .saturating_sub(both.memory_before_bytes);
        Values {
            offered_per_second: rate(sent.messages as f64, sent.seconds),
            delivered_per_second: delivered,
            delivered_bytes_per_second: delivered.map(|rate| rate * size_bytes as f64),
            sent: Some(sent.messages),
            received: Some(received.distinct),
            lost: Some(sent.messages.saturating_sub(received.distinct))
                .filter(|_| received.complete),
            duplicated: Some(received.duplicated),
            reordered: Some(received.reordered),
            sender_cpu_seconds_per_million: apart
                .and_then(|million| rate(sent.usage.cpu_seconds, million)),
            receiver_cpu_seconds_per_million: apart
                .and_then(|million| rate(received.usage.cpu_seconds, million)),
            cpu_seconds_per_million: rate(both.cpu_seconds, million),
            memory_peak_bytes: Some(both.memory_peak_bytes).filter(|bytes| *bytes > 0),
            memory_growth_bytes_per_million: rate(grown as f64, million)
                .filter(|_| received.distinct >= TELLING_ARRIVALS),
            ..Values::default()
        }
    }
}

/// `None` of nothing, rather than a number without meaning.
fn rate(amount: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| amount / of)
}

fn with_path(values: Values, injected: Option<Injected>) -> Values {
    Values {
        path_arrived: injected.map(|injected| injected.arrived),
        path_lost: injected.map(|injected| injected.lost),
        path_held_back: injected.map(|injected| injected.held_back),
        path_duplicated: injected.map(|injected| injected.duplicated),
        path_stalls: injected.map(|injected| injected.stalls),
        path_overrun: injected.map(|injected| injected.overrun),
        ..values
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::{Received, Sent};
    use super::*;

    fn growth(messages: u64) -> Option<f64> {
        let usage = Usage {
            memory_before_bytes: 1_000_000,
            memory_peak_bytes: 2_000_000,
            ..Usage::default()
        };
        let sent = Sent {
            messages,
            seconds: 1.0,
            usage,
        };
        let received = Received {
            seconds: 1.0,
            distinct: messages,
            complete: true,
            duplicated: 0,
            reordered: 0,
            usage,
        };
        Tally { sent, received }
            .values(100)
            .memory_growth_bytes_per_million
    }

    #[test]
    fn memory_is_not_stretched_from_few_messages_to_a_million() {
        assert_eq!(growth(200_000), Some(10e6));
        assert_eq!(growth(TELLING_ARRIVALS - 1), None);
    }
}
