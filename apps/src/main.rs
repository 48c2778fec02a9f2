//! mutirao: spread work over machines without losing any of it.
//!
//! One binary, one subcommand per app; this file is the table of contents.

mod chat;
mod columns;
mod compare;
mod count;
mod dispatch;
mod echo;
mod election;
mod exit;
mod flags;
mod given;
mod keygen;
mod ops;
mod ops_table;
mod report;
mod screen;
mod shown;
mod signals;
mod storage;
mod terminal;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Spread work over threads, processes or machines without losing any of it.
#[derive(Debug, Parser)]
#[command(
    name = "mutirao",
    version,
    propagate_version = true,
    after_help = "Example: count the words of every file under texts/ with four workers\n  \
                  mutirao run texts/ --op wordcount --workers 4 --out results"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(dispatch::run::RunArgs),
    Ventilator(dispatch::ventilator::VentilatorArgs),
    Worker(dispatch::worker::WorkerArgs),
    Sink(dispatch::sink::SinkArgs),
    Broker(dispatch::broker::serve::BrokerArgs),
    Submit(dispatch::broker::submit::SubmitArgs),
    Results(dispatch::broker::results::ResultsArgs),
    Jobs(dispatch::broker::jobs::JobsArgs),
    Job(dispatch::broker::jobs::JobArgs),
    Cancel(dispatch::broker::jobs::CancelArgs),
    Status(dispatch::broker::status::StatusArgs),
    Echo(echo::EchoArgs),
    Chat(chat::ChatArgs),
    Storage(storage::StorageArgs),
    Election(election::ElectionArgs),
    Compare(compare::CompareArgs),
    #[command(hide = true)]
    ComparePeer(compare::peer::PeerArgs),
    Keygen(keygen::KeygenArgs),
    /// List the operations
    #[command(after_help = "Example:\n  mutirao ops")]
    Ops,
}

fn main() -> std::process::ExitCode {
    let cli = match command_line() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    start_log(&cli.command);
    allow_many_connections();
    let ended = match cli.command {
        Command::Run(args) => dispatch::run::run(args),
        Command::Ventilator(args) => dispatch::ventilator::run(args),
        Command::Worker(args) => dispatch::worker::run(args),
        Command::Sink(args) => dispatch::sink::run(args),
        Command::Broker(args) => dispatch::broker::serve::run(args),
        Command::Submit(args) => dispatch::broker::submit::run(args),
        Command::Results(args) => dispatch::broker::results::run(args),
        Command::Jobs(args) => dispatch::broker::jobs::list(args),
        Command::Job(args) => dispatch::broker::jobs::show(args),
        Command::Cancel(args) => dispatch::broker::jobs::cancel(args),
        Command::Status(args) => dispatch::broker::status::run(args),
        Command::Echo(args) => echo::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Storage(args) => storage::run(args),
        Command::Election(args) => election::run(args),
        Command::Compare(args) => compare::run(args),
        Command::ComparePeer(args) => compare::peer::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Ops => ops_table::print(),
    };
    exit::report(ended)
}

/// What was asked for, on the command line or in the environment.
fn command_line() -> Result<Cli, clap::Error> {
    let known = forgiving(Cli::command()).try_get_matches();
    Cli::from_arg_matches_mut(&mut known?)
}

/// The command and those below it, without the variables that are empty.
fn forgiving(command: clap::Command) -> clap::Command {
    command.mut_args(unless_empty).mut_subcommands(forgiving)
}

/// An empty variable counts as not given: compose and Kubernetes pass on what nobody has set.
fn unless_empty(arg: Arg) -> Arg {
    let value = arg.get_env().and_then(std::env::var_os);
    match value.is_some_and(|value| value.is_empty()) {
        true => arg.env(None),
        false => arg,
    }
}

/// As many connections as the system lets this user have, not only those that it gives by default.
fn allow_many_connections() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where that is not allowed, sockets say so when they run out.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// Logs go to standard error; long-running roles say a little more by default.
fn start_log(command: &Command) {
    let level = match command {
        Command::Ventilator(_) | Command::Worker(_) | Command::Sink(_) => "info",
        Command::Broker(_) => "info",
        Command::Chat(args) if args.is_server() => "info",
        Command::Submit(args) if args.stays_for_long() => "info",
        Command::Echo(args) if args.stays_for_long() => "info",
        Command::Storage(args) if args.stays() => "info",
        Command::Election(args) if args.is_node() => "info",
        _ => "warn",
    };
    let environment = env_logger::Env::default().default_filter_or(level);
    env_logger::Builder::from_env(environment)
        .format_target(false)
        .init();
}
