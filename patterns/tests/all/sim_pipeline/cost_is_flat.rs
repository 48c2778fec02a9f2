//! The cost of a task does not grow with the job: the machines alone, joined without a network.

use std::time::{Duration, Instant};

use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{
    Batch, Dispatch, Incarnation, JobId, Limits, Results, SinkInput, SinkMachine, SinkOutput,
    VentilatorInput, VentilatorMachine, VentilatorOutput, WorkerId, WorkerInput, WorkerMachine,
    WorkerOutput,
};
use mutirao::wire::Records;

use super::world::DISPATCHES;

/// Runs a job through one ventilator, several workers and one sink; time advances by a
/// microsecond with each batch.
struct Trio {
    now: Time,
    ventilator: VentilatorMachine,
    workers: Vec<WorkerMachine<()>>,
    sink: SinkMachine<()>,
    /// Results are made safe in groups of so many frames.
    group: usize,
    safe: Vec<std::ops::Range<u64>>,
    turn: usize,
    finished: bool,
}

impl Trio {
    fn new(dispatch: Dispatch, workers: u64, group: usize) -> Trio {
        let limits = Limits::default();
        let worker = |id| WorkerMachine::new(WorkerId(id), 2, dispatch, limits.clone());
        Trio {
            now: Time::START,
            ventilator: VentilatorMachine::new(JobId(7), Incarnation(1), dispatch, limits.clone()),
            workers: (0..workers).map(worker).collect(),
            sink: SinkMachine::new(Incarnation(1), limits.clone()),
            group,
            safe: Vec::new(),
            turn: 0,
            finished: false,
        }
    }

    fn run(&mut self, tasks: u64) {
        let mut submitted = 0;
        self.ventilator.wake(self.now);
        for worker in 0..self.workers.len() {
            let id = self.workers[worker].id();
            self.ventilator
                .handle(self.now, VentilatorInput::Subscribed(id));
            self.workers[worker].handle(self.now, WorkerInput::SinkReady);
            self.drain_worker(worker);
        }
        while !self.finished {
            while submitted < tasks && self.ventilator.has_room() {
                let mut records = Records::default();
                let count = (tasks - submitted).min(4096);
                (0..count).for_each(|_| records.push(&1u8).expect("a number"));
                submitted += count;
                self.ventilator
                    .handle(self.now, VentilatorInput::Submit(records));
                if submitted == tasks {
                    self.ventilator.handle(self.now, VentilatorInput::Finish);
                }
                self.drain_ventilator();
            }
            self.beat();
            self.drain_ventilator();
            self.confirm();
        }
    }

    fn beat(&mut self) {
        self.now = self.now + Duration::from_micros(100);
        if self
            .ventilator
            .deadline()
            .is_some_and(|time| time <= self.now)
        {
            self.ventilator.wake(self.now);
            self.sink.wake(self.now);
            for worker in 0..self.workers.len() {
                self.workers[worker].wake(self.now);
                self.drain_worker(worker);
            }
        }
    }

    fn confirm(&mut self) {
        let safe = std::mem::take(&mut self.safe);
        if !safe.is_empty() {
            self.sink
                .handle(self.now, SinkInput::Confirm(JobId(7), safe, Vec::new()));
        }
        self.drain_sink();
    }

    fn drain_ventilator(&mut self) {
        while let Some(output) = self.ventilator.poll() {
            match output {
                VentilatorOutput::Tasks(to, tasks) => {
                    self.turn = (self.turn + 1) % self.workers.len();
                    let to = to.map_or(self.turn, |id| id.0 as usize);
                    let batch = Batch {
                        job: JobId(7),
                        span: tasks.span,
                        attempt: tasks.attempt,
                        attempts: tasks.attempts,
                        body: (),
                        bytes: tasks.bytes().len(),
                    };
                    self.workers[to].handle(self.now, WorkerInput::Tasks(batch));
                    self.drain_worker(to);
                }
                VentilatorOutput::ToWorker(id, says) => {
                    let to = id.0 as usize;
                    self.workers[to].handle(self.now, WorkerInput::Ventilator(says));
                    self.drain_worker(to);
                }
                VentilatorOutput::ToSink(tells) => {
                    self.sink.handle(self.now, SinkInput::Ventilator(1, tells));
                    self.drain_sink();
                }
                VentilatorOutput::Finished => self.finished = true,
                _ => {}
            }
        }
    }

    fn drain_worker(&mut self, at: usize) {
        while let Some(output) = self.workers[at].poll() {
            match output {
                WorkerOutput::Run(batch) => {
                    let results = Results {
                        span: batch.span,
                        frame: std::sync::Arc::from([0u8; 8]),
                    };
                    let worked = WorkerInput::Worked {
                        job: batch.job,
                        span: batch.span,
                        attempt: batch.attempt,
                        busy: Duration::from_nanos(100) * batch.span.count,
                        results: vec![results],
                        failed: Vec::new(),
                    };
                    self.workers[at].handle(self.now, worked);
                }
                WorkerOutput::ToVentilator(says) => {
                    self.ventilator
                        .handle(self.now, VentilatorInput::Worker(says));
                }
                WorkerOutput::ToSink(results) => {
                    let worker = self.workers[at].id();
                    let input = SinkInput::Results {
                        worker,
                        job: JobId(7),
                        span: results.span,
                        body: (),
                    };
                    self.sink.handle(self.now, input);
                    self.drain_sink();
                }
                _ => {}
            }
        }
    }

    fn drain_sink(&mut self) {
        while let Some(output) = self.sink.poll() {
            match output {
                SinkOutput::ToVentilator(_, says) => {
                    self.ventilator
                        .handle(self.now, VentilatorInput::Sink(says));
                }
                SinkOutput::Acknowledge(worker, job, span) => {
                    let to = worker.0 as usize;
                    self.workers[to].handle(self.now, WorkerInput::Acknowledged(job, span));
                }
                SinkOutput::Abandon(job) => panic!("{job} was abandoned"),
                SinkOutput::Open(job) => {
                    self.sink
                        .handle(self.now, SinkInput::Resume(job, Vec::new(), Vec::new()));
                }
                SinkOutput::Deliver { fresh, .. } => {
                    self.safe.extend(fresh);
                    if self.safe.len() >= self.group {
                        let safe = std::mem::take(&mut self.safe);
                        self.sink
                            .handle(self.now, SinkInput::Confirm(JobId(7), safe, Vec::new()));
                    }
                }
                SinkOutput::Complete(job) => self.sink.handle(self.now, SinkInput::Close(job, 1)),
            }
        }
    }
}

/// The best time per task of three runs, in nanoseconds.
fn cost(dispatch: Dispatch, workers: u64, tasks: u64) -> f64 {
    let run = |_| {
        let mut trio = Trio::new(dispatch, workers, 16);
        let start = Instant::now();
        trio.run(tasks);
        let time = start.elapsed();
        let progress = trio.ventilator.progress();
        assert_eq!(
            (progress.safe, progress.retried, progress.duplicates),
            (tasks, 0, 0)
        );
        assert!(trio.ventilator.audit().expect("right counts") < 200);
        time.as_nanos() as f64 / tasks as f64
    };
    (0..3).map(run).fold(f64::MAX, f64::min)
}

/// Something that is done for all tasks with each batch would make the long job twenty times as dear.
#[test]
fn cost_is_flat() {
    for dispatch in DISPATCHES {
        for workers in [2, 50] {
            let (short, long) = (
                cost(dispatch, workers, 20_000),
                cost(dispatch, workers, 400_000),
            );
            assert!(
                long < 5.0 * short + 50.0,
                "{dispatch:?}: {short} ns, then {long} ns a task"
            );
        }
    }
}
