//! What a person types: messages, and commands that begin with a slash.

use super::text::{check_name, check_text};
use super::wire::Word;

/// What `/help` says.
pub(crate) const HELP: &[&str] = &[
    "/msg NAME TEXT   says something to one member only",
    "/join ROOM       goes to another room, which is made if it is not there",
    "/rooms           lists the rooms",
    "/who             lists the members of this room",
    "/nick NAME       takes another name",
    "/quit            leaves",
    "//TEXT           says something that begins with a slash",
];

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Nothing.
    Nothing,
    /// Something for the hall.
    Word(Word),
    /// Something that is known here.
    Help,
    Who,
}

/// Reads a line. `last` is how many messages are wanted on entering a room.
///
/// # Errors
///
/// A sentence that says what is wrong with it.
pub(crate) fn read(line: &str, last: u32) -> Result<Command, String> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return Ok(Command::Nothing);
    }
    let Some(command) = line.strip_prefix('/') else {
        return say(line);
    };
    if command.starts_with('/') {
        return say(command);
    }
    let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
    let rest = rest.trim();
    Ok(match (name, rest) {
        ("msg", rest) => tell(rest)?,
        ("join", "") => return Err("which room? write /join ROOM".into()),
        ("join", room) => {
            check_name("room", room)?;
            let room = room.to_string();
            Command::Word(Word::Enter { room, last })
        }
        ("nick", "") => return Err("which name? write /nick NAME".into()),
        ("nick", name) => {
            check_name("member", name)?;
            Command::Word(Word::Nick(name.to_string()))
        }
        ("rooms", "") => Command::Word(Word::Rooms),
        ("who", "") => Command::Who,
        ("help", "") => Command::Help,
        ("quit", "") => Command::Word(Word::Leave),
        ("rooms" | "who" | "help" | "quit", _) => {
            return Err(format!("/{name} stands alone: write //{command} to say it"));
        }
        _ => {
            let name: String = name.chars().take(20).collect();
            return Err(format!(
                "there is no command /{name}: /help lists them, and //{name} … says it"
            ));
        }
    })
}

fn say(text: &str) -> Result<Command, String> {
    check_text(text)?;
    Ok(Command::Word(Word::Say(text.to_string())))
}

fn tell(rest: &str) -> Result<Command, String> {
    let (to, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let text = text.trim_start();
    if to.is_empty() || text.is_empty() {
        return Err("to whom, and what? write /msg NAME TEXT".into());
    }
    check_name("member", to)?;
    check_text(text)?;
    let (to, text) = (to.to_string(), text.to_string());
    Ok(Command::Word(Word::Tell { to, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(line: &str) -> Word {
        match read(line, 7) {
            Ok(Command::Word(word)) => word,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(word("olá"), Word::Say("olá".into()));
        assert_eq!(word("//etc/hosts\r\n"), Word::Say("/etc/hosts".into()));
        assert_eq!(
            word("/msg ana  boa  noite"),
            Word::Tell {
                to: "ana".into(),
                text: "boa  noite".into()
            }
        );
        let (room, last) = ("sala".to_string(), 7);
        assert_eq!(word("/join sala"), Word::Enter { room, last });
        assert_eq!(word("/nick bia"), Word::Nick("bia".into()));
        assert_eq!(word("/quit"), Word::Leave);
        assert_eq!(read("  ", 0), Ok(Command::Nothing));
        assert_eq!(read("/help", 0), Ok(Command::Help));
    }

    #[test]
    fn what_makes_no_sense_is_explained() {
        let long = "x".repeat(5_000);
        let lines = [
            "/dance",
            "/msg",
            "/msg ana",
            "/join",
            "/join a b",
            "/nick a\u{1b}[2J",
            "/quit now",
            &long,
        ];
        for line in lines {
            let sentence = read(line, 0).unwrap_err();
            assert!(sentence.len() < 200 && !sentence.contains('\u{1b}'));
        }
    }
}
