//! Whatever strangers send to the open ports of a job: it ends right, and nobody crashes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mutirao::pipeline::{Incarnation, JobId, Span, VentilatorTells, WorkerId, WorkerSays};
use mutirao::wire::{Kind, Writer};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use crate::harness::Place;
use crate::trio::{PATTERNS, Trio, Wire, dismiss};

const FILES: usize = 200;

/// The four ports of a job.
fn ports(trio: &Trio) -> [u16; 4] {
    let (tasks, results) = trio.endpoints();
    let port = |endpoint: &str| -> u16 { endpoint.rsplit(':').next().unwrap().parse().unwrap() };
    let (tasks, results) = (port(tasks), port(results));
    [tasks, tasks + 1, results, results + 1]
}

/// Somebody who sends nonsense until told to stop.
fn nuisance(stop: &Arc<AtomicBool>, mut once: impl FnMut() + Send + 'static) -> JoinHandle<()> {
    let stop = stop.clone();
    std::thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            once();
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

/// Writes bytes to a port as if no protocol existed.
fn shout(port: u16, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 256]);
}

/// A greeting and a handshake as ZMTP 3.0 has them, and then a frame that claims 4 GiB.
fn huge_claim(socket_type: &str) -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
    ready.extend_from_slice(&(socket_type.len() as u32).to_be_bytes());
    ready.extend_from_slice(socket_type.as_bytes());
    bytes.extend_from_slice(&[4, ready.len() as u8]);
    bytes.extend_from_slice(&ready);
    bytes.push(2);
    bytes.extend_from_slice(&(4u64 << 30).to_be_bytes());
    bytes.extend_from_slice(b"MUT1 and so on");
    bytes
}

fn raw_bytes(chance: &mut StdRng) -> Vec<u8> {
    match chance.random_range(0..5) {
        0 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        1 => random(chance, 300),
        2 => {
            let types = [
                "DEALER", "PULL", "PUSH", "SUB", "PUB", "ROUTER", "NONSENSE", "",
            ];
            huge_claim(types[chance.random_range(0..types.len())])
        }
        3 => huge_claim("DEALER")[..chance.random_range(0..100)].to_vec(),
        _ => vec![0xff; 2000],
    }
}

fn random(chance: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; chance.random_range(0..most)];
    chance.fill_bytes(&mut bytes);
    bytes
}

/// A frame that ZeroMQ carries and we cannot like.
fn bad_frame(chance: &mut StdRng) -> Vec<u8> {
    let (job, worker) = (JobId(chance.random()), WorkerId(chance.random()));
    let control = |says: &WorkerSays| Writer::new(Kind::Control).value(says).unwrap().finish();
    let huge = Span {
        first: u64::MAX - 3,
        count: u32::MAX,
    };
    let mut frame = match chance.random_range(0..14) {
        0 => Vec::new(),
        1 => random(chance, 200),
        2 => b"MUT2\x03\x93".to_vec(),
        3 => b"MUT".to_vec(),
        4 => {
            let mut frame = b"MUT1".to_vec();
            frame.push(chance.random_range(0..8));
            frame.extend(random(chance, 100));
            frame
        }
        5 => [b"MUT1\x03".to_vec(), vec![0x91; 50_000]].concat(),
        6 => claims(Kind::Results, &[job.0, worker.0, 0, u64::from(u32::MAX)]),
        7 => claims(Kind::Results, &[job.0, worker.0, u64::MAX, 3]),
        8 => claims(Kind::Tasks, &[job.0, u64::MAX, u64::from(u32::MAX), 1, 1]),
        9 => control(&WorkerSays::Hello {
            worker,
            slots: u32::MAX,
            heartbeat: Duration::from_millis(100),
        }),
        10 => control(&WorkerSays::Bye {
            worker,
            job,
            unbegun: vec![huge; 100],
        }),
        11 => control(&WorkerSays::Beat {
            worker,
            job,
            held: vec![huge; 100],
        }),
        12 => Writer::new(Kind::Control)
            .value(&VentilatorTells::Close {
                job,
                incarnation: Incarnation(1),
                tasks: u64::MAX,
            })
            .unwrap()
            .finish(),
        _ => b"results and then nothing that makes sense".to_vec(),
    };
    if chance.random_bool(0.2) {
        frame.truncate(chance.random_range(0..=frame.len()));
    }
    frame
}

fn claims(kind: Kind, fields: &[u64]) -> Vec<u8> {
    let writer = fields
        .iter()
        .fold(Writer::new(kind), |writer, &field| writer.uint(field));
    writer.records(b"\xc3\xc0").finish()
}

/// Sends bad frames through a real ZeroMQ socket, sometimes many frames to a message.
struct Stranger {
    socket: zmq::Socket,
    chance: StdRng,
}

impl Stranger {
    fn new(kind: zmq::SocketType, port: u16, seed: u64) -> Stranger {
        let socket = zmq::Context::new().socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_sndtimeo(100).unwrap();
        socket.connect(&format!("tcp://127.0.0.1:{port}")).unwrap();
        Stranger {
            socket,
            chance: StdRng::seed_from_u64(seed),
        }
    }

    fn speak(&mut self) {
        let count = match self.chance.random_range(0..20) {
            0 => 100,
            1..4 => 2,
            _ => 1,
        };
        let mut frames: Vec<_> = (0..count).map(|_| bad_frame(&mut self.chance)).collect();
        if self.chance.random_bool(0.3) {
            frames.insert(0, b"results".to_vec());
        }
        // Whoever was cut off cannot send, and nobody minds.
        let _ = self.socket.send_multipart(frames, 0);
    }
}

/// Which sockets may talk to the four ports of a job.
fn strangers(pattern: &str) -> [Option<zmq::SocketType>; 4] {
    let (tasks, results) = match pattern {
        "push-pull" => (None, Some(zmq::PUSH)),
        "req-rep" => (Some(zmq::DEALER), Some(zmq::DEALER)),
        _ => (Some(zmq::XSUB), Some(zmq::PUB)),
    };
    [tasks, Some(zmq::DEALER), results, Some(zmq::DEALER)]
}

fn write_inputs(place: &Place) {
    for number in 0..FILES {
        place.write(&format!("in/f{number}"), format!("{number}\n"));
    }
}

#[track_caller]
fn check_copies(place: &Place) {
    assert_eq!(place.files("out").len(), FILES, "{}", place.tree("out"));
    for number in 0..FILES {
        let copy = place.read(&format!("out/f{number}.out"));
        assert_eq!(copy, format!("{number}\n").as_bytes());
    }
}

#[test]
fn garbage_at_every_port_does_no_harm() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    for pattern in PATTERNS {
        let mut trio = Trio::new(pattern, Wire::Tcp);
        write_inputs(&trio.place);
        let input = trio.place.arg("in");
        let mut sink = trio.sink();
        let op = "exec:sh -c 'sleep 0.02; cat'";
        let mut ventilator = trio.ventilator(&[&input, "--op", op]);
        let stop = Arc::new(AtomicBool::new(false));
        let mut nuisances = Vec::new();
        for (port, kind) in ports(&trio).into_iter().zip(strangers(pattern)) {
            let mut chance = StdRng::seed_from_u64(seed);
            nuisances.push(nuisance(&stop, move || {
                shout(port, &raw_bytes(&mut chance))
            }));
            if let Some(kind) = kind {
                let mut stranger = Stranger::new(kind, port, seed);
                nuisances.push(nuisance(&stop, move || stranger.speak()));
            }
        }
        let mut workers = [trio.worker(), trio.worker()];
        let peaks = [&mut ventilator, &mut sink].map(|process| process.peak_mib());
        let ended = ventilator.wait().expect_code(0);
        stop.store(true, Ordering::SeqCst);
        nuisances
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        check_copies(&trio.place);
        assert_eq!(ended.summary()["ok"], FILES, "{pattern}");
        assert!(
            ended.peak_mib < 200 && sink.peak_mib() < 200,
            "{pattern}: {peaks:?}"
        );
        let noise = ended.stderr.lines().count();
        assert!(noise < 100, "{pattern}: {noise} lines:\n{}", ended.stderr);
        assert!(workers.iter_mut().all(|worker| worker.try_wait().is_none()));
        workers.into_iter().for_each(dismiss);
        dismiss(sink);
    }
}

/// Worker and sink keep their ports open for days; what comes to an idle one does no harm either.
#[test]
fn a_worker_between_jobs_survives_a_ventilator_that_talks_nonsense() {
    for pattern in PATTERNS {
        let context = zmq::Context::new();
        let kind = match pattern {
            "push-pull" => zmq::PUSH,
            "req-rep" => zmq::ROUTER,
            _ => zmq::XPUB,
        };
        let (data, control, port) = loop {
            let data = context.socket(kind).unwrap();
            data.bind("tcp://127.0.0.1:*").unwrap();
            let endpoint = data.get_last_endpoint().unwrap().unwrap();
            let port: u16 = endpoint.rsplit(':').next().unwrap().parse().unwrap();
            let control = context.socket(zmq::ROUTER).unwrap();
            if control
                .bind(&format!("tcp://127.0.0.1:{}", port + 1))
                .is_ok()
            {
                break (data, control, port);
            }
        };
        for socket in [&data, &control] {
            socket.set_linger(0).unwrap();
            socket.set_rcvtimeo(5000).unwrap();
            socket.set_sndtimeo(50).unwrap();
        }
        let mut trio = Trio::new(pattern, Wire::Ipc);
        let sink = trio.sink();
        let mut worker = crate::harness::mutirao(["worker", "--pattern", pattern])
            .args(["--ventilator", &format!("tcp://127.0.0.1:{port}")])
            .args(["--sink", trio.endpoints().1, "--heartbeat", "100ms"])
            .start();
        // Its hello on the control socket tells how it is reached.
        let hello = control.recv_multipart(0).expect("a worker says hello");
        let mut chance = StdRng::seed_from_u64(7);
        for _ in 0..300 {
            let frame = bad_frame(&mut chance);
            let _ = control.send_multipart([&hello[0], &frame], 0);
            let _ = match pattern {
                "push-pull" => data.send(frame, 0),
                "req-rep" => data.send_multipart([&hello[0], &frame], 0),
                _ => data.send_multipart([&b"tasks/"[..], &frame], 0),
            };
        }
        drop((data, control));
        let tasks = format!("tcp://127.0.0.1:{port}");
        trio.place.write("in/a", "A");
        let input = trio.place.arg("in");
        let ventilator = crate::harness::mutirao(["ventilator", &input, "--op", "lowercase"])
            .args([
                "--bind",
                &tasks,
                "--sink",
                trio.endpoints().1,
                "--pattern",
                pattern,
            ])
            .args(["--heartbeat", "100ms"])
            .start();
        ventilator.wait().expect_code(0);
        assert!(worker.try_wait().is_none());
        dismiss(worker);
        dismiss(sink);
    }
}

/// Anyone may pull from an open PUSH socket. What goes astray comes again.
#[test]
fn a_thief_of_tasks_delays_the_job_and_no_more() {
    let mut trio = Trio::new("push-pull", Wire::Tcp);
    write_inputs(&trio.place);
    let input = trio.place.arg("in");
    let sink = trio.sink();
    let ventilator = trio.ventilator(&[&input, "--op", "exec:cat"]);
    let thief = zmq::Context::new().socket(zmq::PULL).unwrap();
    thief.connect(trio.endpoints().0).unwrap();
    thief.set_rcvtimeo(5000).unwrap();
    let worker = trio.worker();
    for _ in 0..3 {
        thief.recv_bytes(0).expect("something to steal");
    }
    drop(thief);
    let ended = ventilator.wait().expect_code(0);
    assert!(ended.summary()["retried"].as_u64().unwrap() >= 3);
    check_copies(&trio.place);
    dismiss(worker);
    dismiss(sink);
}

/// Roles of different patterns do not understand each other, and say so instead of waiting for ever.
#[test]
fn roles_of_different_patterns_say_so() {
    for (ours, theirs) in [
        ("push-pull", "req-rep"),
        ("req-rep", "pub-sub"),
        ("pub-sub", "push-pull"),
    ] {
        let mut trio = Trio::new(ours, Wire::Tcp);
        trio.place.write("in/a", "A");
        let input = trio.place.arg("in");
        let sink = trio.sink();
        let ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
        let (tasks, results) = trio.endpoints();
        let worker = crate::harness::mutirao(["worker", "--pattern", theirs])
            .args(["--ventilator", tasks, "--sink", results])
            .start();
        let ended = worker.wait_within(Duration::from_secs(10)).expect_code(3);
        ended.expect_said(&["pattern"]);
        let worker = trio.worker();
        ventilator.wait().expect_code(0);
        dismiss(worker);
        dismiss(sink);
    }
}
