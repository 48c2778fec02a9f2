//! `mutirao chat`: rooms, members, private messages, over every pattern and transport.
//!
//! ```text
//!   server    Hall     rooms, members, what was heard        a machine without sockets
//!   client    Guest    knocks, repeats, fetches, beats       a machine without sockets
//!     both    lane     once and in order, over whatever loses, repeats or reorders
//!             wire     packets of at most a datagram's size
//!             ways     the three patterns: packets between sockets
//! ```
//!
//! The machines do not know the pattern, and the patterns do not know the chat. Reading order: `wire`,
//! `lane`, `guest`, `hall`, `ways`, `server`, `client`.

mod bucket;
mod calendar;
mod client;
mod command;
mod crowd;
mod guest;
mod hall;
mod history;
mod lane;
mod plain;
mod screen;
mod server;
#[cfg(test)]
mod sim_tests;
mod talk;
mod text;
mod ways;
mod wire;

use clap::{Args, Subcommand};

use crate::exit::Exit;

/// Where a chat is unless something else is said.
const ENDPOINT: &str = "tcp://127.0.0.1:5570";

/// Talk in a terminal: a server, clients, or a crowd of simulated members.
#[derive(Debug, Args)]
#[command(after_help = "Example: a server, and two terminals that talk\n  \
    mutirao chat server &\n  \
    mutirao chat client --name ana\n  \
    mutirao chat client --name bia")]
pub(crate) struct ChatArgs {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    Server(server::ServerArgs),
    Client(client::ClientArgs),
    Crowd(crowd::CrowdArgs),
}

impl ChatArgs {
    /// Whether it says what it does without being asked.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self.role, Role::Server(_))
    }
}

pub(crate) fn run(args: ChatArgs) -> Result<(), Exit> {
    match args.role {
        Role::Server(args) => server::run(args),
        Role::Client(args) => client::run(args),
        Role::Crowd(args) => crowd::run(args),
    }
}
