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

/// A server that answers every message, and clients that ask it.
#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer every message, and write it down with the time and the client's address
    Server(server::ServerArgs),
    /// Send a message, or every line of standard input, and print the answers
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
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_string(),
    };
    let parsed = format!("tcp://{host}:{port}").parse();
    parsed.map_err(|error: mutirao::endpoint::EndpointError| Exit::Usage(error.to_string()))
}
