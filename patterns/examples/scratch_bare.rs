//! scratch
use std::time::Instant;
fn main() {
    let n: usize = std::env::args()
        .nth(1)
        .map_or(4_000_000, |s| s.parse().unwrap());
    let size: usize = std::env::args().nth(2).map_or(100, |s| s.parse().unwrap());
    let ctx = zmq::Context::new();
    let pull = ctx.socket(zmq::PULL).unwrap();
    pull.bind("tcp://127.0.0.1:*").unwrap();
    let ep = pull.get_last_endpoint().unwrap().unwrap();
    let push = ctx.socket(zmq::PUSH).unwrap();
    push.connect(&ep).unwrap();
    let data = vec![7u8; size];
    let start = Instant::now();
    let t = std::thread::spawn(move || {
        for _ in 0..n {
            push.send(&data[..], 0).unwrap();
        }
        push
    });
    let mut m = zmq::Message::new();
    let mut got = 0usize;
    for _ in 0..n {
        pull.recv(&mut m, 0).unwrap();
        got += m.len();
    }
    let s = start.elapsed().as_secs_f64();
    t.join().unwrap();
    println!(
        "bare: {:.2} M/s {:.2} GB/s",
        n as f64 / s / 1e6,
        got as f64 / s / 1e9
    );
}
