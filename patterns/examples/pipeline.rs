//! Ventilator, workers and sink in one process: the lengths of some words, none of them lost.
//!
//! Replace the endpoints by `tcp://…` ones and each part may run on a machine of its own.

use mutirao::{Sink, SinkConfig, Ventilator, VentilatorConfig, Worker, WorkerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (tasks, results) = ("inproc://tasks".parse()?, "inproc://results".parse()?);
    let mut sink = Sink::<usize>::start(SinkConfig::new(results))?;
    let mut ventilator =
        Ventilator::<String>::start(VentilatorConfig::new(tasks, sink.endpoint().clone()))?;

    let config = WorkerConfig::new(ventilator.endpoint().clone(), sink.endpoint().clone());
    let _worker = Worker::start(config, |word: String, _info| {
        if word.is_empty() {
            return Err("an empty word has no length worth telling".into());
        }
        Ok(word.chars().count())
    })?;

    let collector = std::thread::spawn(move || {
        sink.collect_job(|task, outcome| match outcome {
            Ok(length) => println!("word {task} has {length} letters"),
            Err(failure) => println!("word {task} failed: {}", failure.reason),
        })
    });

    for word in "muitas mãos fazem o trabalho leve".split(' ') {
        ventilator.submit(&word.to_string())?;
    }
    let summary = ventilator.finish(None)?;
    println!("{} results are safe", summary.progress.safe);
    collector.join().expect("the collector does not panic")?;
    Ok(())
}
