//! Ventilator, workers and sink as processes of their own.

use std::process::ExitStatus;

use rustix::process::Signal;

use crate::harness::{Launch, Place, Process, mutirao};

pub(crate) const PATTERNS: [&str; 3] = ["push-pull", "req-rep", "pub-sub"];

/// What the processes talk over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Sockets in the test's folder.
    Ipc,
    /// Ports that the system picks.
    Tcp,
    /// The same by another transport.
    By(&'static str),
}

/// A trio in the making: where it works and how its parts are started.
pub(crate) struct Trio {
    pub(crate) place: Place,
    pub(crate) pattern: &'static str,
    /// Where the ventilator listens, once that is known.
    tasks: String,
    /// Where the sink listens, once that is known.
    results: String,
    /// Given to every role.
    common: Vec<String>,
    /// Given to the sink and to every worker.
    sink_flags: Vec<String>,
    worker_flags: Vec<String>,
}

impl Trio {
    /// One that finds out soon who is dead, and on a busy machine may take the slow for dead.
    pub(crate) fn new(pattern: &'static str, wire: Wire) -> Trio {
        Trio::with_heartbeat(pattern, wire, "100ms")
    }

    /// One in which only the dead are taken for dead, for tests that count how often a task is done.
    pub(crate) fn patient(pattern: &'static str, wire: Wire) -> Trio {
        Trio::with_heartbeat(pattern, wire, "1s")
    }

    fn with_heartbeat(pattern: &'static str, wire: Wire, heartbeat: &str) -> Trio {
        let place = Place::new();
        let (tasks, results) = match wire {
            Wire::Ipc => (place.ipc("tasks"), place.ipc("results")),
            Wire::Tcp => ("tcp://127.0.0.1:*".into(), "tcp://127.0.0.1:*".into()),
            Wire::By(scheme) => {
                let any = format!("{scheme}://127.0.0.1:*");
                (any.clone(), any)
            }
        };
        Trio {
            place,
            pattern,
            tasks,
            results,
            common: ["--pattern", pattern, "--heartbeat", heartbeat]
                .map(String::from)
                .to_vec(),
            sink_flags: Vec::new(),
            worker_flags: ["--slots", "2", "--allow-exec"].map(String::from).to_vec(),
        }
    }

    /// Flags for every role.
    pub(crate) fn with(mut self, flags: &[&str]) -> Trio {
        self.common.extend(flags.iter().map(|&flag| flag.into()));
        self
    }

    pub(crate) fn with_sink_flags(mut self, flags: &[&str]) -> Trio {
        self.sink_flags = flags.iter().map(|&flag| flag.into()).collect();
        self
    }

    /// Flags for the workers, instead of two slots and permission to run commands.
    pub(crate) fn with_worker_flags(mut self, flags: &[&str]) -> Trio {
        self.worker_flags = flags.iter().map(|&flag| flag.into()).collect();
        self
    }

    /// The sink, writing into `out`; the same endpoint again when it is started again.
    pub(crate) fn sink(&mut self) -> Process {
        let sink = self.sink_launch().start();
        self.results = endpoint_in(&sink.wait_for("results at "), "results at ");
        sink
    }

    pub(crate) fn sink_launch(&self) -> Launch {
        let out = self.place.arg("out");
        mutirao(["sink", "--bind", &self.results, "--out", &out])
            .args(&self.sink_flags)
            .args(&self.common)
    }

    /// A ventilator with these arguments; start the sink first.
    pub(crate) fn ventilator(&mut self, args: &[&str]) -> Process {
        self.start(self.ventilator_launch(args))
    }

    /// Starts a ventilator and finds out where it listens.
    pub(crate) fn start(&mut self, launch: Launch) -> Process {
        let ventilator = launch.start();
        self.tasks = endpoint_in(&ventilator.wait_for("tasks at "), "tasks at ");
        ventilator
    }

    pub(crate) fn ventilator_launch(&self, args: &[&str]) -> Launch {
        mutirao(["ventilator"])
            .args(args)
            .args(["--bind", &self.tasks, "--sink", &self.results])
            .args(["--summary", "json"])
            .args(&self.common)
    }

    /// A worker; start the ventilator first, where the system picks its port.
    pub(crate) fn worker(&self) -> Process {
        self.worker_launch().start()
    }

    pub(crate) fn worker_launch(&self) -> Launch {
        mutirao([
            "worker",
            "--ventilator",
            &self.tasks,
            "--sink",
            &self.results,
        ])
        .args(&self.worker_flags)
        .args(&self.common)
    }

    /// Where ventilator and sink listen.
    pub(crate) fn endpoints(&self) -> (&str, &str) {
        (&self.tasks, &self.results)
    }
}

pub(crate) fn endpoint_in(line: &str, after: &str) -> String {
    let rest = line.split(after).nth(1).expect("the line was found by it");
    let word = rest.split_whitespace().next().expect("something");
    word.trim_end_matches([',', ':']).to_owned()
}

/// Asks a worker or a sink to leave; it must do so without a complaint.
#[track_caller]
pub(crate) fn dismiss(process: Process) {
    process.signal(Signal::TERM);
    process.wait().expect_code(0);
}

/// Whether a ventilator that was killed, or not in time, had done its job.
pub(crate) fn had_finished(status: ExitStatus) -> bool {
    status.code() == Some(0)
}
