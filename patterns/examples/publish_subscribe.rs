//! Publishes temperatures by city; the subscriber hears of one city and notices what it missed.
//!
//!     cargo run --example publish_subscribe

use std::error::Error;
use std::time::Duration;

use mutirao::pubsub::{Event, PublisherConfig, SubscriberConfig};
use mutirao::{Endpoint, Publisher, Subscriber};

fn main() -> Result<(), Box<dyn Error>> {
    let anywhere: Endpoint = "tcp://127.0.0.1:*".parse()?;
    let publisher = Publisher::<f64>::bind(&anywhere, PublisherConfig::default())?;
    let mut subscriber =
        Subscriber::<f64>::connect(publisher.endpoint(), SubscriberConfig::default())?;
    subscriber.subscribe_exact("temperature/olinda")?;
    publisher.wait_for_subscriber(Duration::from_secs(5))?;

    for hour in 0..24 {
        let warmth = f64::from(hour - 12).abs();
        publisher.publish("temperature/recife", &(31.5 - warmth / 2.0))?;
        publisher.publish("temperature/olinda", &(31.0 - warmth / 2.0))?;
    }
    let mut heard = 0;
    while heard < 24 {
        match subscriber.recv_within(Duration::from_secs(5))? {
            Event::Message { topic, value } => {
                println!("{topic}: {value} °C");
                heard += 1;
            }
            Event::Gap { topic, missed } | Event::Restarted { topic, missed } => {
                println!("{topic}: {missed} values were lost");
                heard += missed;
            }
        }
    }
    Ok(())
}
