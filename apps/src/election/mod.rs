//! `mutirao election`: members that agree on a leader, a look at them from outside, and both algorithms tried in the
//! simulator. What it is that they do stands in the library; here it gets flags, a folder and a screen.

mod experiment;
mod node;
mod watch;

use clap::{Args, Subcommand, ValueEnum};
use mutirao::election::Algorithm;

use crate::exit::Exit;

/// Elect a leader among several nodes, and never two.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: three members on this machine, and who leads\n  \
    peers=1=tcp://127.0.0.1:5581,2=tcp://127.0.0.1:5582,3=tcp://127.0.0.1:5583\n  \
    for id in 1 2 3; do mutirao election node --id $id --peers $peers & done\n  \
    mutirao election watch --peers $peers"
)]
pub(crate) struct ElectionArgs {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    Node(node::NodeArgs),
    Watch(watch::WatchArgs),
    Experiment(experiment::ExperimentArgs),
}

impl ElectionArgs {
    /// Whether it says what it does without being asked.
    pub(crate) fn is_node(&self) -> bool {
        matches!(self.role, Role::Node(_))
    }
}

pub(crate) fn run(args: ElectionArgs) -> Result<(), Exit> {
    match args.role {
        Role::Node(args) => node::run(args),
        Role::Watch(args) => watch::run(&args),
        Role::Experiment(args) => experiment::run(&args),
    }
}

/// How the leader is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AlgorithmName {
    /// Garcia-Molina's, as published: right only where nothing is lost or late
    Bully,
    /// The same order by id, with a majority, durable votes and leases
    Quorum,
}

impl AlgorithmName {
    fn algorithm(self) -> Algorithm {
        match self {
            AlgorithmName::Bully => Algorithm::Bully,
            AlgorithmName::Quorum => Algorithm::Quorum,
        }
    }
}
