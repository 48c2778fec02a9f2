//! Asks a dictionary, one word at a time and many at once. Plain REQ sockets could ask it as well.
//!
//!     cargo run --example request_reply

use std::error::Error;
use std::thread;

use mutirao::reqrep::{CallError, ReplierConfig, RequesterConfig};
use mutirao::{Endpoint, Replier, Requester};

fn translate(word: String) -> Result<String, String> {
    let english = match word.as_str() {
        "mutirão" => "joint effort",
        "vizinho" => "neighbour",
        "casa" => "house",
        _ => return Err(format!("{word:?} is not in the dictionary")),
    };
    Ok(english.to_string())
}

fn main() -> Result<(), Box<dyn Error>> {
    let anywhere: Endpoint = "tcp://127.0.0.1:*".parse()?;
    let mut replier = Replier::bind(&anywhere, ReplierConfig::default())?;
    let endpoint = replier.endpoint().clone();
    let stop = replier.stop_handle();
    let serving = thread::spawn(move || replier.serve(translate));

    let mut requester = Requester::<str, String>::connect(&endpoint, RequesterConfig::default())?;
    println!("mutirão: {}", requester.call("mutirão")?);
    let words = ["casa", "vizinho", "saudade"];
    for (word, answer) in words.iter().zip(requester.call_all(words)) {
        match answer {
            Ok(english) => println!("{word}: {english}"),
            Err(CallError::Refused(reason)) => println!("{word}: {reason}"),
            Err(error) => return Err(error.into()),
        }
    }
    stop.stop();
    serving.join().expect("a replier that does not panic")?;
    Ok(())
}
