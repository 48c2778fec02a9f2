//! How a part of a measurement hears from whoever started it.

use std::io::BufRead as _;
use std::sync::mpsc::{self, Receiver, Sender};

use mutirao::machine::{Clock, Time};
use mutirao::transport::Source;
use mutirao::wait::{Interest, Sleeper, Waker, wait};
use serde::{Deserialize, Serialize};

/// What a part is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// So many messages were sent; the receiver may say what came of them.
    Sent(u64),
    /// It is over.
    End,
}

/// The hearing end: orders end a wait.
pub(super) struct Control {
    orders: Receiver<Order>,
    sleeper: Sleeper,
}

/// The telling end.
#[derive(Clone)]
pub(super) struct Teller {
    orders: Sender<Order>,
    waker: Waker,
}

impl Control {
    /// Both ends.
    pub(super) fn pair() -> std::io::Result<(Teller, Control)> {
        let (sender, orders) = mpsc::channel();
        let (sleeper, waker) = Sleeper::new()?;
        let teller = Teller {
            orders: sender,
            waker,
        };
        Ok((teller, Control { orders, sleeper }))
    }

    /// Orders from standard input, one a line; the process ends with its starter, whatever happens to that.
    pub(super) fn stdin() -> std::io::Result<Control> {
        let (teller, control) = Control::pair()?;
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                match line.ok().and_then(|line| serde_json::from_str(&line).ok()) {
                    Some(order) => teller.tell(order),
                    None => break,
                }
            }
            std::process::exit(0);
        });
        Ok(control)
    }

    /// The next order, if there is one.
    pub(super) fn order(&self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    /// Waits for the sources, an order, or the deadline.
    pub(super) fn wait(&self, source: Source<'_>, interest: Interest, clock: &Clock, until: Time) {
        wait(&[(source, interest)], &self.sleeper, clock, Some(until));
    }
}

impl Teller {
    /// Gives an order; harmless when nobody listens any more.
    pub(super) fn tell(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            self.waker.wake();
        }
    }
}
