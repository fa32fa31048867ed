//! The examples of `docs/commands/manifest.md` are true: each command runs, in their order, and says the lines that stand there.

use std::process::Command;

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

use crate::support::{emaj_alone, redact};

/// Returns the commands of a page's `console` blocks, each with the lines below it.
fn examples(page: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match (line.strip_prefix("$ "), found.last_mut()) {
                (Some(command), _) => found.push((command.to_owned(), Vec::new())),
                (None, Some((_, lines))) => lines.push(line.to_owned()),
                (None, None) => panic!("output without a command: {line}"),
            },
            _ => {}
        }
    }
    found
}

#[test]
fn the_examples_of_the_page_are_true() {
    let cluster = Cluster::builder().start().unwrap();
    let client = |role: &str, dbname: &str| {
        Client::connect(&format!("{} user={role}", cluster.conninfo(dbname)), NoTls).unwrap()
    };
    for sql in ["create role shopkeeper login", "create database shop owner shopkeeper"] {
        client("postgres", "postgres").batch_execute(sql).unwrap();
    }
    client("shopkeeper", "shop")
        .batch_execute(include_str!("../manifests/shop.sql"))
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let page = include_str!("../docs/commands/manifest.md");
    let examples = examples(page);
    assert!(examples.len() > 15, "{examples:?}");
    let mut last_code = 0;
    for (command, lines) in examples {
        let said = if let Some(args) = command.strip_prefix("emaj ") {
            let (args, file) = args
                .split_once(" > ")
                .map_or((args, None), |(args, file)| (args, Some(file)));
            let run = emaj_alone(directory.path())
                .envs(cluster.env("shop"))
                .env("PGUSER", "shopkeeper")
                .args(args.split(' '))
                .run();
            if let Some(file) = file {
                std::fs::write(directory.path().join(file), &run.stdout).unwrap();
            }
            last_code = run.status.unwrap();
            run.stdout + &run.stderr
        } else if let Some(args) = command.strip_prefix("psql ") {
            let (role, args) = match args.strip_prefix("-U postgres ") {
                Some(args) => ("postgres", args),
                None => ("shopkeeper", args),
            };
            let sql = args
                .strip_prefix("-c \"")
                .and_then(|sql| sql.strip_suffix('"'))
                .unwrap();
            client(role, "shop").batch_execute(sql).unwrap();
            String::new()
        } else if command == "echo $?" {
            last_code.to_string()
        } else {
            let output = Command::new("sh")
                .args(["-c", &command])
                .current_dir(directory.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{command}");
            String::from_utf8(output.stdout).unwrap()
        };
        let said_lines: Vec<&str> = said.lines().collect();
        for line in &lines {
            let there = said_lines.iter().any(|said| said.starts_with(line.as_str()));
            assert!(there, "`$ {command}` does not say `{line}`, but:\n{}", redact(&said));
        }
    }
}
