//! The client: a message, or one for every line of standard input, and their answers.

use std::io::{BufRead, Read as _, Write as _};
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mutirao::Endpoint;
use mutirao::reqrep::{CallError, Requester, RequesterConfig};
use mutirao::transport::SocketOptions;

use super::record::Record;
use super::{MAX_MESSAGE_BYTES, PORT};
use crate::exit::Exit;
use crate::flags::{self, KeyFlag, ServerFlag, TransportFlags};
use crate::shown::shown;
use crate::signals::Caught;

/// Room that an answer takes beyond its message.
const ENVELOPE_BYTES: usize = 64;

/// Send a message, or every line of standard input, and print the answers.
///
/// What is not answered is asked again, three times in all; then the server is reported as gone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    mutirao echo client localhost --message hello\n  \
    seq 3 | mutirao echo client 10.0.0.7:5000 --transport tcp")]
pub(crate) struct ClientArgs {
    /// Where the server is; the port is 5000 unless it is given
    #[arg(env = "MUTIRAO_ECHO_SERVER", value_name = "HOST[:PORT]")]
    server: String,

    /// What to send; without it, every line of standard input
    #[arg(long, env = "MUTIRAO_MESSAGE", value_name = "TEXT")]
    message: Option<String>,

    /// Where every answer is written down
    #[arg(
        long,
        env = "MUTIRAO_ECHO_LOG",
        default_value = "respuestas.txt",
        value_name = "FILE"
    )]
    log: PathBuf,

    /// How long to wait for each answer, over all tries
    #[arg(long, env = "MUTIRAO_TIMEOUT", default_value = "5s", value_name = "TIME", value_parser = flags::duration)]
    timeout: Duration,

    #[command(flatten)]
    transport: TransportFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    server_key: ServerFlag,
}

/// Who asks, and where the answers go.
struct Client {
    requester: Requester<str, String>,
    endpoint: Endpoint,
    record: Record,
}

pub(crate) fn run(args: &ClientArgs) -> Result<(), Exit> {
    let (host, port) = host_and_port(&args.server)?;
    let endpoint = args.transport.apply(&super::endpoint(host, port)?)?;
    let mut client = Client {
        requester: connect(args, &endpoint)?,
        endpoint,
        record: Record::open(&args.log)?,
    };
    let caught = Caught::begin()?;
    let stop = client.requester.stop_handle();
    caught.then(move |_| {
        stop.stop();
        // Standard input may be what is waited for.
        std::thread::sleep(Duration::from_millis(200));
        crate::exit::leave(&interrupted())
    });
    match &args.message {
        Some(message) => client.ask(message),
        None => client.ask_all(std::io::stdin().lock()),
    }
}

fn interrupted() -> Exit {
    Exit::Interrupted("interrupted; the answers up to now are written down".into())
}

/// `HOST`, `HOST:PORT`, or an IPv6 address in brackets with or without a port.
fn host_and_port(server: &str) -> Result<(&str, u16), Exit> {
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => return Ok((server, PORT)),
    };
    let port = port.parse().map_err(|_| {
        Exit::Usage(format!(
            "{server} is no HOST:PORT: the port is a number from 1 to 65535"
        ))
    })?;
    Ok((host, port))
}

fn connect(args: &ClientArgs, endpoint: &Endpoint) -> Result<Requester<str, String>, Exit> {
    let mut config = RequesterConfig {
        socket: SocketOptions {
            max_message_bytes: MAX_MESSAGE_BYTES + ENVELOPE_BYTES,
            security: flags::security(&args.key, Some(&args.server_key), None)?,
            ..RequesterConfig::default().socket
        },
        ..RequesterConfig::default()
    };
    config.retry.timeout = args.timeout / config.retry.attempts.max(1);
    Ok(Requester::connect(endpoint, config)?)
}

impl Client {
    fn ask_all(&mut self, mut lines: impl BufRead) -> Result<(), Exit> {
        for number in 1_u64.. {
            let mut line = Vec::new();
            let mut bounded = (&mut lines).take(MAX_MESSAGE_BYTES as u64 + 1);
            let read = bounded.read_until(b'\n', &mut line);
            read.map_err(|error| {
                Exit::Environment(format!("standard input cannot be read: {error}"))
            })?;
            if line.is_empty() {
                break;
            }
            let place = format!("line {number} of standard input");
            check_length(&place, line.len())?;
            let text = String::from_utf8(line).map_err(|_| {
                Exit::Environment(format!("{place} is not UTF-8: convert it first"))
            })?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            self.ask(text.strip_suffix('\r').unwrap_or(text))?;
        }
        Ok(())
    }

    fn ask(&mut self, message: &str) -> Result<(), Exit> {
        check_length("the message", message.len())?;
        let answer = self.requester.call(message);
        let answer = answer.map_err(|error| self.explain(&error))?;
        self.record.add(&self.endpoint.to_string(), &answer)?;
        match writeln!(std::io::stdout(), "{}", shown(&answer)) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Exit::ReaderGone),
            Err(error) => Err(Exit::Environment(format!(
                "standard output cannot be written: {error}"
            ))),
            Ok(()) => Ok(()),
        }
    }

    fn resolves(&self) -> bool {
        let place = (self.endpoint.host().unwrap_or_default(), PORT);
        place.to_socket_addrs().is_ok()
    }

    fn explain(&self, error: &CallError) -> Exit {
        match error {
            CallError::Stopped => interrupted(),
            CallError::TimedOut { .. } if !self.resolves() => Exit::Environment(format!(
                "the host of {} does not resolve: check the name",
                self.endpoint
            )),
            CallError::TimedOut { .. } => Exit::Environment(format!(
                "no server answers at {}: start one there with `mutirao echo server` and the same --transport",
                self.endpoint
            )),
            other => Exit::Environment(other.to_string()),
        }
    }
}

fn check_length(what: &str, bytes: usize) -> Result<(), Exit> {
    let most = MAX_MESSAGE_BYTES - ENVELOPE_BYTES;
    match bytes > most {
        true => Err(Exit::Usage(format!(
            "{what} has more than {most} bytes: send it in parts"
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        let read = |server| host_and_port(server).ok();
        assert_eq!(read("localhost"), Some(("localhost", 5000)));
        assert_eq!(read("10.0.0.7:80"), Some(("10.0.0.7", 80)));
        assert_eq!(read("[::1]:80"), Some(("[::1]", 80)));
        assert_eq!(read("[::1]"), Some(("[::1]", 5000)));
        assert_eq!(read("::1"), Some(("::1", 5000)));
        assert_eq!(read("host:port"), None);
    }
}
