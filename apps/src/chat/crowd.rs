//! `mutirao chat crowd`: many simulated members in one process, who check that each gets everything.

mod member;
mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use mutirao::machine::Clock;
use mutirao::{Endpoint, Pattern};

use super::ways::Address;
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::{self, KeyFlag, ServerFlag, TransportFlags};

/// How long all may take to get in, and how long to wait for the last messages.
const PATIENCE: Duration = Duration::from_secs(120);

/// They come one after the other, so far apart.
const APART: Duration = Duration::from_millis(2);

/// How often the threads are looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Let many simulated members talk, and measure.
///
/// They enter one room of a server that runs, and talk for a while. Then it is counted whether each got
/// every message once and in order, and how long the messages took. Exit status 1 if one is missing.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao chat crowd --members 1000 --seconds 10 --rate 50")]
pub(crate) struct CrowdArgs {
    /// How many members
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4000))]
    members: u32,

    /// How long they talk
    #[arg(long, default_value_t = 10, value_name = "N")]
    seconds: u32,

    /// Messages a second, all members together
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// The room that they meet in
    #[arg(long, default_value = "crowd", value_name = "ROOM")]
    room: String,

    /// Say more than the server takes, and do not count
    #[arg(long)]
    flood: bool,

    /// Where the server is
    #[arg(long, env = "MUTIRAO_SERVER", default_value = super::ENDPOINT, value_name = "ENDPOINT", value_parser = flags::endpoint)]
    server: Endpoint,

    #[command(flatten)]
    transport: TransportFlags,

    /// How messages travel, as the server has it: pub-sub, push-pull or req-rep
    #[arg(
        long,
        env = "MUTIRAO_PATTERN",
        default_value = "pub-sub",
        value_name = "PATTERN"
    )]
    pattern: Pattern,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    curve_server: ServerFlag,
}

/// What the threads know of each other.
struct Shared {
    clock: Clock,
    address: Address,
    room: String,
    /// What the names of this crowd begin with.
    prefix: String,
    members: u32,
    rate: u32,
    threads: usize,
    talk: Duration,
    flood: bool,
    /// Members that are in the room and have heard all there was.
    ready: AtomicUsize,
    /// Set when all are ready: nanoseconds on the clock.
    start_ns: AtomicU64,
    /// Messages said; complete when all threads are quiet.
    said: AtomicU64,
    quiet: AtomicUsize,
    /// Threads whose members have got everything.
    satisfied: AtomicUsize,
    stop: AtomicBool,
}

/// What a thread has counted.
struct Counted {
    delivered: u64,
    /// Messages that came twice or in another order.
    disordered: u64,
    latencies_us: Histogram<u64>,
}

pub(crate) fn run(args: CrowdArgs) -> Result<(), Exit> {
    let security = flags::security(&args.key, Some(&args.curve_server), None)?;
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let count = count.min(args.members as usize);
    let shared = Arc::new(Shared {
        clock: Clock::start(),
        address: Address {
            pattern: args.pattern,
            endpoint: args.transport.apply(&args.server)?,
            security,
        },
        room: args.room,
        prefix: format!("m{:04x}", rand::random::<u16>()),
        members: args.members,
        rate: args.rate,
        threads: count,
        talk: Duration::from_secs(args.seconds.into()),
        flood: args.flood,
        ready: AtomicUsize::new(0),
        start_ns: AtomicU64::new(0),
        said: AtomicU64::new(0),
        quiet: AtomicUsize::new(0),
        satisfied: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let threads: Vec<_> = (0..count)
        .map(|index| {
            let shared = shared.clone();
            std::thread::spawn(move || thread::run(&shared, index, count))
        })
        .collect();
    let joined = conduct(&shared, &threads);
    shared.stop.store(true, Ordering::SeqCst);
    let mut counted = Vec::new();
    for thread in threads {
        let ended = thread.join();
        counted.push(ended.map_err(|_| Exit::Environment("a thread panicked".into()))??);
    }
    report(&shared, joined, &counted)
}

type Threads = [std::thread::JoinHandle<Result<Counted, Exit>>];

/// Lets all come in, talk, and hear the rest. How long it took to come in, if all did.
fn conduct(shared: &Shared, threads: &Threads) -> Option<Duration> {
    let begin = Instant::now();
    let members = shared.members as usize;
    if !wait_for(threads, PATIENCE, || {
        shared.ready.load(Ordering::SeqCst) == members
    }) {
        return None;
    }
    let joined = begin.elapsed();
    eprintln!(
        "{} in the room after {:.2} s",
        counted(members as u64, "member"),
        joined.as_secs_f64()
    );
    let now = shared.clock.now().since(mutirao::machine::Time::START);
    shared
        .start_ns
        .store((now.as_nanos() as u64).max(1), Ordering::SeqCst);
    wait_for(threads, shared.talk + PATIENCE, || {
        shared.quiet.load(Ordering::SeqCst) == threads.len()
    });
    if !shared.flood {
        wait_for(threads, PATIENCE, || {
            shared.satisfied.load(Ordering::SeqCst) == threads.len()
        });
    }
    Some(joined)
}

/// Whether it came to be before the time was over or a thread ended.
fn wait_for(threads: &Threads, patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    while !done() {
        if Instant::now() > end || threads.iter().any(|thread| thread.is_finished()) {
            return false;
        }
        std::thread::sleep(GLANCE);
    }
    true
}

fn report(shared: &Shared, joined: Option<Duration>, counts: &[Counted]) -> Result<(), Exit> {
    let Some(joined) = joined else {
        return Err(Exit::Environment(format!(
            "only {} of {} members got into the room at {}",
            shared.ready.load(Ordering::SeqCst),
            shared.members,
            shared.address.endpoint
        )));
    };
    let said = shared.said.load(Ordering::SeqCst);
    let expected = said * u64::from(shared.members);
    let delivered: u64 = counts.iter().map(|count| count.delivered).sum();
    let disordered: u64 = counts.iter().map(|count| count.disordered).sum();
    let mut latencies = histogram();
    counts.iter().for_each(|count| {
        // Both have the same bounds.
        let _ = latencies.add(&count.latencies_us);
    });
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{} by {} at {}: in the room after {:.2} s; {said} messages said in {} s; {delivered} of {expected} deliveries, {disordered} twice or out of order; latency p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
        counted(shared.members.into(), "member"),
        shared.address.pattern,
        shared.address.endpoint,
        joined.as_secs_f64(),
        shared.talk.as_secs(),
        ms(0.5),
        ms(0.99),
        ms(0.999),
        latencies.max() as f64 / 1000.0,
    );
    if !shared.flood && (delivered != expected || disordered > 0) {
        return Err(Exit::SomeFailed(format!(
            "{} of {expected} deliveries are missing",
            expected.saturating_sub(delivered)
        )));
    }
    Ok(())
}

/// Microseconds up to ten minutes, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!("fixed bounds"))
}
