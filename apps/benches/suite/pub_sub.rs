//! PUB/SUB of 100-byte records over tcp, in a process each; both wait for a slow subscriber, so that
//! nothing is lost.

use std::fmt::Display;
use std::time::Duration;

use mutirao::pubsub::{Event, PublisherConfig, SlowSubscriber, SubscriberConfig};
use mutirao::{Endpoint, Publisher, Subscriber};
use serde_bytes::{ByteBuf, Bytes};

use crate::process::{self, Player};
use crate::push_pull::{QUEUE_MESSAGES, RECORD, clock};
use crate::report::{Row, Target, Unit};
use crate::rounds::interleave;
use crate::{Effort, Result};

const TOPIC: &str = "news";

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let records = effort.pick(1_000_000, 8_000_000);
    let [bare, ours] = interleave(
        effort.rounds(),
        [&mut || pair("bare", records), &mut || {
            pair("typed", records)
        }],
    )?;
    Ok(vec![Row {
        what: "PUB/SUB 100 B tcp, many records per frame, none lost".into(),
        unit: Unit::PerSecond,
        reference: Some(bare),
        ours,
        target: Target::None,
    }])
}

/// Records a second, as the subscriber sees it; it fails when one is lost.
fn pair(kind: &str, records: u64) -> Result<f64> {
    let mut publisher = Player::start(&format!("{kind}-publish"), &[&records])?;
    let endpoint: String = publisher.hear()?;
    let args: [&dyn Display; 2] = [&endpoint, &records];
    process::number(&format!("{kind}-subscribe"), &args)
}

pub(crate) fn bare_publish(args: &[String]) -> Result<()> {
    let records: u64 = process::arg(args, 0)?;
    let mut socket = zmq::Context::new().socket(zmq::XPUB)?;
    socket.set_sndhwm(QUEUE_MESSAGES)?;
    wait_when_full(&mut socket)?;
    socket.bind("tcp://127.0.0.1:*")?;
    println!(
        "{}",
        socket.get_last_endpoint()?.map_err(|_| "no endpoint")?
    );
    // The subscription.
    socket.recv_bytes(0)?;
    let message = [TOPIC.as_bytes(), &RECORD].concat();
    for _ in 0..records {
        socket.send(&message[..], 0)?;
    }
    Ok(())
}

/// Makes `send` wait while a subscriber's queue is full; the binding has no name for the option.
#[expect(unsafe_code)]
fn wait_when_full(socket: &mut zmq::Socket) -> Result<()> {
    const ZMQ_XPUB_NODROP: i32 = 69;
    let on: i32 = 1;
    // SAFETY: a live socket; pointer and size describe `on`, which outlives the call.
    let rc = unsafe {
        zmq_sys::zmq_setsockopt(
            socket.as_mut_ptr(),
            ZMQ_XPUB_NODROP,
            (&raw const on).cast(),
            size_of_val(&on),
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err("XPUB_NODROP is not there".into())
    }
}

pub(crate) fn bare_subscribe(args: &[String]) -> Result<()> {
    let (endpoint, records): (String, u64) = (process::arg(args, 0)?, process::arg(args, 1)?);
    let socket = zmq::Context::new().socket(zmq::SUB)?;
    socket.set_rcvhwm(QUEUE_MESSAGES)?;
    socket.set_subscribe(TOPIC.as_bytes())?;
    socket.connect(&endpoint)?;
    let mut message = zmq::Message::new();
    clock(records, || {
        socket.recv(&mut message, 0)?;
        Ok(message.len() - TOPIC.len())
    })
}

pub(crate) fn typed_publish(args: &[String]) -> Result<()> {
    let records: u64 = process::arg(args, 0)?;
    let mut config = PublisherConfig {
        slow_subscriber: SlowSubscriber::Block,
        ..PublisherConfig::default()
    };
    config.socket.linger = Duration::from_secs(30);
    let publisher = Publisher::<Bytes>::bind(&"tcp://127.0.0.1:*".parse()?, config)?;
    println!("{}", publisher.endpoint());
    publisher.wait_for_subscriber(Duration::from_secs(20))?;
    for _ in 0..records {
        publisher.publish(TOPIC, Bytes::new(&RECORD))?;
    }
    Ok(())
}

pub(crate) fn typed_subscribe(args: &[String]) -> Result<()> {
    let (endpoint, records): (Endpoint, u64) = (process::arg(args, 0)?, process::arg(args, 1)?);
    let mut subscriber = Subscriber::<ByteBuf>::connect(&endpoint, SubscriberConfig::default())?;
    subscriber.subscribe_exact(TOPIC)?;
    clock(records, || match subscriber.recv()? {
        Event::Message { value, .. } => Ok(value.len()),
        lost => Err(format!("records were lost: {lost:?}").into()),
    })
}
