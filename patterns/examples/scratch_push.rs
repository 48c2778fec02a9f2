//! scratch
use mutirao::pushpull::*;
use std::time::Instant;
fn main() {
    let n: usize = std::env::args()
        .nth(1)
        .map_or(4_000_000, |s| s.parse().unwrap());
    let off = std::env::args().nth(2).is_some_and(|s| s == "off");
    let pc = if off {
        PusherConfig::unbatched()
    } else {
        PusherConfig::default()
    };
    let mut qc = PullerConfig::default();
    if off {
        qc.socket.queue_messages = 1000;
    }
    let mut pull =
        Puller::<serde_bytes::ByteBuf>::bind(&"tcp://127.0.0.1:*".parse().unwrap(), qc).unwrap();
    let push = Pusher::<serde_bytes::Bytes>::connect(pull.endpoint(), pc).unwrap();
    let data = vec![7u8; 100];
    let start = Instant::now();
    let t = std::thread::spawn(move || {
        for _ in 0..n {
            push.send(serde_bytes::Bytes::new(&data)).unwrap();
        }
        push
    });
    let mut got = 0usize;
    for _ in 0..n {
        got += pull.recv().unwrap().len();
    }
    let s = start.elapsed().as_secs_f64();
    t.join().unwrap();
    println!(
        "ours off={off}: {:.2} M/s {:.2} GB/s",
        n as f64 / s / 1e6,
        got as f64 / s / 1e9
    );
}
