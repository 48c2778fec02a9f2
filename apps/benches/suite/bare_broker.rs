//! What one would write on bare sockets: a ROUTER towards clients, a ROUTER towards workers, one task
//! per message, so many of them ahead at each worker.

use std::collections::VecDeque;
use std::time::Instant;

use crate::process;
use crate::push_pull::RECORD;
use crate::{Result, rounds::percentile};

/// Tasks that a worker holds ahead.
const CREDIT: usize = 64;
/// High enough that nothing is ever dropped.
const QUEUE_MESSAGES: i32 = 1_000_000;
/// Tasks that a client has under way.
const WINDOW: u64 = 100_000;
/// Round trips before the clock starts.
const WARM_UP: u64 = 1000;

fn router(context: &zmq::Context) -> Result<(zmq::Socket, String)> {
    let socket = context.socket(zmq::ROUTER)?;
    socket.set_sndhwm(QUEUE_MESSAGES)?;
    socket.set_rcvhwm(QUEUE_MESSAGES)?;
    socket.bind("tcp://127.0.0.1:*")?;
    let endpoint = socket.get_last_endpoint()?.map_err(|_| "no endpoint")?;
    Ok((socket, endpoint))
}

fn dealer(endpoint: &str) -> Result<zmq::Socket> {
    let socket = zmq::Context::new().socket(zmq::DEALER)?;
    socket.set_sndhwm(QUEUE_MESSAGES)?;
    socket.set_rcvhwm(QUEUE_MESSAGES)?;
    socket.connect(endpoint)?;
    Ok(socket)
}

/// Carries tasks from clients to workers and results back.
pub(crate) fn broker() -> Result<()> {
    let context = zmq::Context::new();
    let (clients, clients_at) = router(&context)?;
    let (workers, workers_at) = router(&context)?;
    println!("{clients_at}");
    println!("{workers_at}");
    let mut free: VecDeque<Vec<u8>> = VecDeque::new();
    loop {
        let mut sockets = [
            workers.as_poll_item(zmq::POLLIN),
            clients.as_poll_item(zmq::POLLIN),
        ];
        // Without a free worker tasks wait in the socket.
        let watched = if free.is_empty() { 1 } else { 2 };
        zmq::poll(&mut sockets[..watched], -1)?;
        while let Ok(worker) = workers.recv_bytes(zmq::DONTWAIT) {
            let client = workers.recv_bytes(0)?;
            if client.is_empty() {
                // It has just come.
                free.extend(std::iter::repeat_n(worker, CREDIT));
                continue;
            }
            let result = workers.recv_msg(0)?;
            clients.send(client, zmq::SNDMORE)?;
            clients.send(result, 0)?;
            free.push_back(worker);
        }
        while let Some(worker) = free.front() {
            let Ok(client) = clients.recv_bytes(zmq::DONTWAIT) else {
                break;
            };
            let task = clients.recv_msg(0)?;
            workers.send(&worker[..], zmq::SNDMORE)?;
            workers.send(client, zmq::SNDMORE)?;
            workers.send(task, 0)?;
            free.pop_front();
        }
    }
}

pub(crate) fn worker(args: &[String]) -> Result<()> {
    let socket = dealer(&process::arg::<String>(args, 0)?)?;
    socket.send("", 0)?;
    loop {
        let client = socket.recv_msg(0)?;
        let task = socket.recv_msg(0)?;
        socket.send(client, zmq::SNDMORE)?;
        socket.send(&(task.len() as u64).to_be_bytes()[..], 0)?;
    }
}

/// Says how many tasks come back in a second.
pub(crate) fn client(args: &[String]) -> Result<()> {
    let socket = dealer(&process::arg::<String>(args, 0)?)?;
    let tasks: u64 = process::arg(args, 1)?;
    trips(&socket, WARM_UP)?;
    let begun = Instant::now();
    let (mut sent, mut received) = (0, 0);
    let mut result = zmq::Message::new();
    while received < tasks {
        while sent < tasks && sent - received < WINDOW {
            socket.send(&RECORD[..], 0)?;
            sent += 1;
            if sent % 64 == 0 {
                break;
            }
        }
        let flags = if sent < tasks { zmq::DONTWAIT } else { 0 };
        while socket.recv(&mut result, flags).is_ok() {
            received += 1;
            if received == tasks {
                break;
            }
        }
    }
    println!("{}", tasks as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

/// Says the p50 and p99 of a round trip in µs.
pub(crate) fn request(args: &[String]) -> Result<()> {
    let socket = dealer(&process::arg::<String>(args, 0)?)?;
    trips(&socket, WARM_UP)?;
    let latencies_us = trips(&socket, process::arg(args, 1)?)?;
    println!("{}", percentile(&latencies_us, 50));
    println!("{}", percentile(&latencies_us, 99));
    Ok(())
}

/// One after the other; their times in µs, sorted.
fn trips(socket: &zmq::Socket, trips: u64) -> Result<Vec<f64>> {
    let mut latencies_us = Vec::new();
    for _ in 0..trips {
        let begun = Instant::now();
        socket.send(&RECORD[..], 0)?;
        socket.recv_msg(0)?;
        latencies_us.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    latencies_us.sort_by(f64::total_cmp);
    Ok(latencies_us)
}
