//! Three members elect a leader; it goes away, and another leads with a higher epoch.
//!
//!     cargo run --example election

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use mutirao::Endpoint;
use mutirao::election::{Callbacks, Election, ElectionSetup, Lease, MemberId};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("mutirao-election-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    // In earnest each member is a process of its own, on a machine of its own.
    let mut peers: BTreeMap<MemberId, Endpoint> = BTreeMap::new();
    for id in 1..=3 {
        let endpoint = format!("ipc://@mutirao-election-{}-{id}", std::process::id());
        peers.insert(MemberId(id), endpoint.parse()?);
    }
    let (tell, gained) = channel();
    let mut members = BTreeMap::new();
    for &id in peers.keys() {
        let ballot = folder.join(format!("ballot-{id}"));
        let setup = ElectionSetup::new(id, peers.clone(), Some(ballot));
        members.insert(id, Election::start(setup, callbacks(id, tell.clone()))?);
    }

    let (first, lease) = gained.recv_timeout(Duration::from_secs(10))?;
    println!("member {first} leads in epoch {}", lease.epoch());
    // Whoever leads asks before each deed, and names its epoch in what it orders.
    assert!(lease.is_valid() && lease.remaining() < Duration::from_secs(1));

    members.remove(&first);
    let (second, next) = gained.recv_timeout(Duration::from_secs(10))?;
    println!("member {second} leads in epoch {}", next.epoch());
    assert!(!lease.is_valid() && next.epoch() > lease.epoch() && second != first);
    println!("the first lease is over, the second epoch is higher");
    drop(members);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// A program would begin its work as leader in the first, and end it in the second.
fn callbacks(id: MemberId, tell: Sender<(MemberId, Lease)>) -> Callbacks {
    Callbacks {
        on_gained: Box::new(move |lease| {
            let _ = tell.send((id, lease));
        }),
        on_lost: Box::new(|_| {}),
    }
}
