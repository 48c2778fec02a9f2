//! Hands small pieces of work to whichever of two pullers is free.
//!
//!     cargo run --example push_pull

use std::error::Error;
use std::thread;
use std::time::Duration;

use mutirao::pushpull::{PullerConfig, PusherConfig};
use mutirao::{Endpoint, OpenError, Puller, Pusher};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Photo {
    name: String,
    megapixels: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let pusher = Pusher::bind(&"tcp://127.0.0.1:*".parse()?, PusherConfig::default())?;
    let pullers = ["ana", "rui"].map(|name| {
        let endpoint = pusher.endpoint().clone();
        thread::spawn(move || develop(name, &endpoint))
    });
    for number in 0..10_000 {
        let (name, megapixels) = (format!("photo-{number}.jpg"), 12);
        pusher.send(&Photo { name, megapixels })?;
    }
    pusher.flush(Duration::from_secs(5))?;
    let mut photos = 0;
    for puller in pullers {
        photos += puller.join().expect("a puller that does not panic")?;
    }
    println!("{photos} photos in all");
    Ok(())
}

fn develop(name: &str, endpoint: &Endpoint) -> Result<u64, OpenError> {
    let config = PullerConfig {
        timeout: Duration::from_millis(500),
        ..PullerConfig::default()
    };
    let mut puller = Puller::<Photo>::connect(endpoint, config)?;
    let pixels = puller.iter().map(|photo| photo.megapixels).sum::<u32>();
    let photos = puller.stats().received;
    println!("{name}: {photos} photos, {pixels} megapixels");
    Ok(photos)
}
