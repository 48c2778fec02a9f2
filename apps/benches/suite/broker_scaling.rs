//! What a task costs at a broker with one to a thousand workers, and in jobs of ten thousand to ten
//! million tasks.

use std::time::{Duration, Instant};

use mutirao::broker::{LeaseId, Takes, WorkerTells};
use mutirao::pipeline::WorkerId;
use mutirao::wire::{Kind, Reader, Writer};

use crate::broker::{Keeping, Ours};
use crate::process::{self, Player};
use crate::report::{Row, Target, Unit};
use crate::rounds::repeat;
use crate::scaling::grouped;
use crate::{Effort, Result};

/// Connections of one thread of a crowd.
const OF_A_THREAD: usize = 250;
const HEARTBEAT: Duration = Duration::from_millis(500);
/// High enough that nothing is ever dropped.
const QUEUE_MESSAGES: i32 = 1_000_000;

/// Tasks a second with so many workers.
pub(crate) fn measure_workers(effort: Effort) -> Result<Vec<Row>> {
    let tasks: u64 = effort.pick(1_000_000, 4_000_000);
    let row = |workers: usize| {
        let ours = repeat(effort.rounds(), || {
            let stage = Ours::start(0, Keeping::Memory)?;
            let mut crowd = Player::start("broker-crowd", &[&stage.at, &workers])?;
            crowd.hear::<usize>()?;
            process::number("broker-client", &[&stage.at, &tasks])
        })?;
        Ok(Row {
            what: format!("broker, no-op tasks, connected workers: {workers}, tcp"),
            unit: Unit::PerSecond,
            reference: None,
            ours,
            target: Target::None,
        })
    };
    [1, 10, 100, 1000].into_iter().map(row).collect()
}

/// The cost of a task with two workers.
pub(crate) fn measure_tasks(effort: Effort) -> Result<Vec<Row>> {
    let row = |decade: u32| {
        let tasks = 10_u64.pow(decade);
        let ours = repeat(effort.rounds(), || {
            let stage = Ours::start(2, Keeping::Memory)?;
            Ok(1e9 / process::number("broker-client", &[&stage.at, &tasks])?)
        })?;
        Ok(Row {
            what: format!("broker, cost per task, job of {}", grouped(tasks)),
            unit: Unit::Nanoseconds,
            reference: None,
            ours,
            target: Target::None,
        })
    };
    (4..=7).map(row).collect()
}

/// Connects so many workers, says so once the broker has answered all of them, and works until it is
/// ended.
pub(crate) fn crowd(args: &[String]) -> Result<()> {
    let (at, workers): (String, usize) = (process::arg(args, 0)?, process::arg(args, 1)?);
    let (tell, told) = std::sync::mpsc::channel();
    for first in (0..workers).step_by(OF_A_THREAD) {
        let (at, tell) = (at.clone(), tell.clone());
        let ids = first..workers.min(first + OF_A_THREAD);
        std::thread::spawn(move || {
            let said = tell.clone();
            let error = work(&at, ids, move || drop(said.send(None)));
            let _ = tell.send(error.err().map(|error| error.to_string()));
        });
    }
    for _ in (0..workers).step_by(OF_A_THREAD) {
        told.recv()?.map_or(Ok(()), Err)?;
    }
    println!("{workers}");
    match told.recv()? {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// A worker of one slot that does at once what it is given.
struct Hand {
    socket: zmq::Socket,
    seen: LeaseId,
    known: bool,
}

fn work(at: &str, ids: std::ops::Range<usize>, ready: impl Fn()) -> Result<()> {
    let context = zmq::Context::new();
    let hire = |id| Hand::hire(&context, at, id);
    let mut hands: Vec<Hand> = ids.map(hire).collect::<Result<_>>()?;
    let mut is_ready = false;
    let mut beat_at = Instant::now() + HEARTBEAT;
    loop {
        let items = hands
            .iter()
            .map(|hand| hand.socket.as_poll_item(zmq::POLLIN));
        let mut items: Vec<_> = items.collect();
        zmq::poll(&mut items, HEARTBEAT.as_millis() as i64 / 2)?;
        let readable: Vec<bool> = items.iter().map(|item| item.is_readable()).collect();
        for (hand, readable) in hands.iter_mut().zip(readable) {
            if readable {
                hand.receive()?;
            }
        }
        if Instant::now() >= beat_at {
            beat_at = Instant::now() + HEARTBEAT;
            hands.iter().try_for_each(Hand::beat)?;
        }
        if !is_ready && hands.iter().all(|hand| hand.known) {
            is_ready = true;
            ready();
        }
    }
}

impl Hand {
    fn hire(context: &zmq::Context, at: &str, id: usize) -> Result<Hand> {
        let socket = context.socket(zmq::DEALER)?;
        socket.set_sndhwm(QUEUE_MESSAGES)?;
        socket.set_rcvhwm(QUEUE_MESSAGES)?;
        socket.set_linger(0)?;
        socket.connect(at)?;
        let hand = Hand {
            socket,
            seen: 0,
            known: false,
        };
        hand.tell(&WorkerTells::Ready {
            worker: WorkerId(id as u64),
            slots: 1,
            operations: vec!["noop".into()],
            held: Vec::new(),
            takes: Takes::default(),
            name: None,
        })?;
        Ok(hand)
    }

    fn tell(&self, tells: &WorkerTells) -> Result<()> {
        let frame = Writer::new(Kind::Worker).value(tells)?.finish();
        Ok(self.socket.send(frame, 0)?)
    }

    fn beat(&self) -> Result<()> {
        let (seen, held) = (self.seen, Vec::new());
        self.tell(&WorkerTells::Beat { seen, held })
    }

    fn receive(&mut self) -> Result<()> {
        while let Ok(message) = self.socket.recv_msg(zmq::DONTWAIT) {
            let (kind, mut reader) = Reader::open(&message)?;
            self.known = true;
            if kind != Kind::Leased {
                continue;
            }
            let (lease, _job) = (reader.uint()?, reader.uint()?);
            let span = reader.span()?;
            self.seen = lease;
            // The length of each task.
            let outcomes = [0xc3, 100].repeat(span.count as usize);
            let busy_us = 1 + u64::from(span.count) / 10;
            let writer = Writer::with_buffer(Vec::with_capacity(outcomes.len() + 64), Kind::Worked);
            let writer = writer.uint(lease).span(span).uint(busy_us);
            self.socket.send(writer.records(&outcomes).finish(), 0)?;
        }
        Ok(())
    }
}
