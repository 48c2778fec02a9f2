//! Every example ends by itself, without an error, and says something.

use std::path::PathBuf;
use std::process::Command;

/// Examples lie in a folder beside that of the test binaries. `cargo test` builds them; with
/// `--test` alone it does not, so that we do.
fn example(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("our own path");
    folder.pop();
    folder.pop();
    let path = folder.join("examples").join(name);
    if !path.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", name]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(cargo.status().expect("cargo").success(), "{name} builds");
    }
    path
}

fn output(name: &str) -> String {
    let output = Command::new(example(name)).output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn push_pull() {
    assert!(output("push_pull").ends_with("10000 photos in all\n"));
}

#[test]
fn request_reply() {
    let output = output("request_reply");
    assert!(output.starts_with("mutirão: joint effort\ncasa: house\n"));
    assert!(output.ends_with("saudade: \"saudade\" is not in the dictionary\n"));
}

#[test]
fn publish_subscribe() {
    assert_eq!(output("publish_subscribe").lines().count(), 24);
}

#[test]
fn broker() {
    let output = output("broker");
    assert!(output.contains("mãos has 4 letters\n"));
    assert!(output.ends_with("4 results are safe\nmutirão has 7 letters\n"));
}

#[test]
fn pipeline() {
    let output = output("pipeline");
    assert!(output.contains("word 2 has 5 letters\n"));
    assert!(output.contains("6 results are safe\n"));
}

#[test]
fn election() {
    let output = output("election");
    let leaders: Vec<&str> = output
        .lines()
        .filter(|line| line.contains(" leads in epoch "))
        .collect();
    assert_eq!(leaders.len(), 2, "{output}");
    assert!(output.ends_with("the first lease is over, the second epoch is higher\n"));
}

#[test]
fn storage() {
    assert_eq!(
        output("storage"),
        "stored on 2 data nodes\nwithout norte: bom dia\n"
    );
}
