//! Hands small pieces of work to whichever of two pullers is free.
//!
//!     cargo run --example push_pull

use std::error::Error;
use std::thread;
use std::time::Duration;

use mutirao::pushpull::{PullerConfig, PusherConfig};
use mutirao::{Endpoint, Puller, Pusher};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Photo {
    name: String,
    megapixels: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let anywhere: Endpoint = "tcp://127.0.0.1:*".parse()?;
    let pusher = Pusher::bind(&anywhere, PusherConfig::default())?;
    let work = |name: &'static str, endpoint: Endpoint| {
        thread::spawn(move || -> Result<u64, String> {
            let config = PullerConfig {
                timeout: Duration::from_millis(500),
                ..PullerConfig::default()
            };
            let mut puller =
                Puller::<Photo>::connect(&endpoint, config).map_err(|e| e.to_string())?;
            let pixels = puller.iter().map(|photo| photo.megapixels).sum::<u32>();
            println!(
                "{name}: {} photos, {pixels} megapixels",
                puller.stats().received
            );
            Ok(puller.stats().received)
        })
    };
    let pullers = [
        work("ana", pusher.endpoint().clone()),
        work("rui", pusher.endpoint().clone()),
    ];
    for number in 0..10_000 {
        let name = format!("photo-{number}.jpg");
        pusher.send(&Photo {
            name,
            megapixels: 12,
        })?;
    }
    pusher.flush(Duration::from_secs(5))?;
    let mut photos = 0;
    for puller in pullers {
        photos += puller.join().expect("a puller that does not panic")?;
    }
    println!("{photos} photos in all");
    Ok(())
}
