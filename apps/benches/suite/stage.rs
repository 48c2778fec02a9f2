//! A trio to measure: tasks that do nothing, and a sink that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mutirao::trio::VentilatorHandle;
use mutirao::{
    Endpoint, Pattern, Sink, SinkConfig, SinkEvent, Ventilator, VentilatorConfig, Worker,
    WorkerConfig,
};
use serde_bytes::ByteBuf;

use crate::Result;

/// A task: 100 bytes.
pub(crate) fn payload() -> ByteBuf {
    ByteBuf::from([7; 100])
}

pub(crate) fn start_sink(pattern: Pattern, bind: Endpoint) -> Result<Sink<u64>> {
    let mut config = SinkConfig::new(bind);
    config.pattern = pattern;
    Ok(Sink::start(config)?)
}

pub(crate) fn start_ventilator(
    pattern: Pattern,
    bind: Endpoint,
    sink: Endpoint,
) -> Result<Ventilator<ByteBuf>> {
    let mut config = VentilatorConfig::new(bind, sink);
    config.pattern = pattern;
    Ok(Ventilator::start(config)?)
}

/// Starts a worker whose tasks take `pause`; its results are the lengths of the tasks.
pub(crate) fn start_worker(
    pattern: Pattern,
    ventilator: Endpoint,
    sink: Endpoint,
    slots: usize,
    pause: Duration,
) -> Result<Worker> {
    let mut config = WorkerConfig::new(ventilator, sink);
    (config.pattern, config.slots) = (pattern, slots);
    Ok(Worker::start(config, move |task: ByteBuf, _| {
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        Ok(task.len() as u64)
    })?)
}

/// Counts results, and tells when a certain one has come.
pub(crate) struct Counter {
    goal: Arc<AtomicU64>,
    moments: Receiver<Instant>,
    thread: JoinHandle<()>,
    stop: mutirao::StopHandle,
}

impl Counter {
    pub(crate) fn start(sink: Sink<u64>) -> Counter {
        let goal = Arc::new(AtomicU64::new(u64::MAX));
        let (tell, moments) = mpsc::channel();
        let stop = sink.stop_handle();
        let thread = std::thread::spawn({
            let goal = goal.clone();
            move || count(sink, &goal, &tell)
        });
        Counter {
            goal,
            moments,
            thread,
            stop,
        }
    }

    /// Sets the result, counted from 1, whose moment shall be told; not a past one.
    pub(crate) fn watch_for(&self, result: u64) {
        self.goal.store(result, Ordering::SeqCst);
    }

    /// When the watched result came into the program's hands.
    pub(crate) fn moment(&self) -> Result<Instant> {
        Ok(self.moments.recv_timeout(Duration::from_secs(120))?)
    }

    /// Counts on until the sink is stopped from outside.
    pub(crate) fn run(self) {
        let _ = self.thread.join();
    }

    fn end(self) {
        self.stop.stop();
        let _ = self.thread.join();
    }
}

fn count(mut sink: Sink<u64>, goal: &AtomicU64, tell: &Sender<Instant>) {
    let (mut results, mut bytes) = (0, 0);
    while let Ok(event) = sink.recv() {
        match event {
            SinkEvent::Opened(job) => sink.resume(job, Vec::new(), Vec::new()),
            SinkEvent::Result { job, task, outcome } => {
                bytes += outcome.unwrap_or(0);
                results += 1;
                sink.confirm(job, task..task + 1);
                if results == goal.load(Ordering::Relaxed) {
                    let _ = tell.send(Instant::now());
                }
            }
            SinkEvent::Abandoned(_) => {}
            SinkEvent::Complete(job) => sink.close(job, bytes),
        }
    }
}

/// The whole trio in this process, ready for tasks.
pub(crate) struct Trio {
    pub(crate) ventilator: Ventilator<ByteBuf>,
    pub(crate) counter: Counter,
    workers: Vec<Worker>,
}

impl Trio {
    /// Starts it with `workers` workers of one slot each.
    pub(crate) fn start(pattern: Pattern, scheme: &str, workers: usize) -> Result<Trio> {
        let endpoint = |name: &str| match scheme {
            "tcp" => "tcp://127.0.0.1:*".parse(),
            _ => format!("{scheme}://{name}").parse(),
        };
        let sink = start_sink(pattern, endpoint("sink")?)?;
        let sink_at = sink.endpoint().clone();
        let ventilator = start_ventilator(pattern, endpoint("ventilator")?, sink_at.clone())?;
        let tasks_at = ventilator.endpoint().clone();
        let counter = Counter::start(sink);
        let start = |_| {
            let (tasks_at, sink_at) = (tasks_at.clone(), sink_at.clone());
            start_worker(pattern, tasks_at, sink_at, 1, Duration::ZERO)
        };
        let workers = (0..workers).map(start).collect::<Result<Vec<_>>>()?;
        wait_for_workers(&ventilator.handle(), workers.len())?;
        Ok(Trio {
            ventilator,
            counter,
            workers,
        })
    }

    /// Finishes the job and ends all.
    pub(crate) fn end(mut self) -> Result<()> {
        self.ventilator.finish(Some(Duration::from_secs(60)))?;
        drop(self.workers);
        self.counter.end();
        Ok(())
    }
}

/// Waits until the sink is open and so many workers have come: connecting is not measured.
pub(crate) fn wait_for_workers(ventilator: &VentilatorHandle, workers: usize) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(20);
    while ventilator.progress().workers < workers || !ventilator.sink_is_open() {
        if Instant::now() > patience {
            return Err("the workers or the sink did not come".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Hands in `tasks` tasks, waits until all results are safe, and returns how many a second.
pub(crate) fn rate(ventilator: &mut Ventilator<ByteBuf>, tasks: u64) -> Result<f64> {
    let payload = payload();
    let begun = Instant::now();
    for _ in 0..tasks {
        ventilator.submit(&payload)?;
    }
    let summary = ventilator.finish(Some(Duration::from_secs(120)))?;
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = summary.progress.result_bytes;
    if summary.progress.failed > 0 || bytes != tasks * payload.len() as u64 {
        return Err(format!("results are missing or wrong: {:?}", summary.progress).into());
    }
    Ok(tasks as f64 / seconds)
}
