//! Which flags stand on the command line itself, as against the environment and the defaults.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

/// The names of the flags that were typed. Flatten it before all other fields: clap forgets where a
/// value came from once it has handed it out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    typed: Vec<String>,
    environment: Vec<String>,
}

impl Given {
    /// Whether the flag was typed.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.typed.iter().any(|given| given == flag)
    }

    /// Whether the environment sets it.
    pub(crate) fn is_in_environment(&self, flag: &str) -> bool {
        self.environment.iter().any(|given| given == flag)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Given, clap::Error> {
        let from = |source| {
            let ids = matches.ids().map(clap::Id::as_str);
            let given = ids.filter(|id| {
                // Groups have no source of their own.
                matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(source)
            });
            given.map(str::to_owned).collect()
        };
        Ok(Given {
            typed: from(ValueSource::CommandLine),
            environment: from(ValueSource::EnvVariable),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Given::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}
