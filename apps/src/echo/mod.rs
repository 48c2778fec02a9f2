//! `mutirao echo`: a server that answers, and remembers who said what.

mod client;
mod record;
mod server;

use clap::{Args, Subcommand};
use mutirao::Endpoint;

use crate::exit::Exit;

/// Where the server listens unless it is told otherwise.
const PORT: u16 = 5000;

/// The longest message, in bytes: what a datagram carries with room to spare.
const MAX_MESSAGE_BYTES: usize = 32 << 10;

/// Answer messages, or send some, over ZeroMQ, TCP or UDP.
#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Server(server::ServerArgs),
    Client(client::ClientArgs),
}

impl EchoArgs {
    /// Whether it stays until it is stopped.
    pub(crate) fn stays_for_long(&self) -> bool {
        matches!(self.command, Command::Server(_))
    }
}

pub(crate) fn run(args: EchoArgs) -> Result<(), Exit> {
    match args.command {
        Command::Server(args) => server::run(&args),
        Command::Client(args) => client::run(&args),
    }
}

fn endpoint(host: &str, port: u16) -> Result<Endpoint, Exit> {
    if host.contains("://") {
        return Err(Exit::Usage(format!(
            "{host} is an endpoint, and echo takes HOST[:PORT]: what carries the messages goes into --transport"
        )));
    }
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_string(),
    };
    let parsed = format!("tcp://{host}:{port}").parse();
    parsed.map_err(|error: mutirao::endpoint::EndpointError| Exit::Usage(error.to_string()))
}
