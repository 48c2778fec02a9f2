//! `mutirao storage`: a head, data nodes and clients of a cluster that keeps records. What they do stands in the
//! library; here it gets flags, folders and words.

mod ask;
mod cluster;
mod data;
mod get;
mod head;
mod list;
mod put;
mod rounds;
mod stay;

use clap::{Args, Subcommand};

use crate::exit::Exit;

/// Keep records on several machines, and lose none that was confirmed.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: a head, two data nodes and a client on this machine\n  \
    mutirao storage head &\n  \
    mutirao storage data --name norte &\n  \
    mutirao storage data --name sur &\n  \
    mutirao storage put 'hola'"
)]
pub(crate) struct StorageArgs {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    Head(head::HeadArgs),
    Data(data::DataArgs),
    Put(put::PutArgs),
    Get(get::GetArgs),
    List(list::ListArgs),
    Status(list::StatusArgs),
    Verify(list::VerifyArgs),
}

impl StorageArgs {
    /// Whether it says what it does without being asked.
    pub(crate) fn stays(&self) -> bool {
        matches!(self.role, Role::Head(_) | Role::Data(_))
    }
}

pub(crate) fn run(args: StorageArgs) -> Result<(), Exit> {
    match args.role {
        Role::Head(args) => head::run(args),
        Role::Data(args) => data::run(args),
        Role::Put(args) => put::run(args),
        Role::Get(args) => get::run(&args),
        Role::List(args) => list::list(&args),
        Role::Status(args) => list::status(&args),
        Role::Verify(args) => list::verify(&args),
    }
}
