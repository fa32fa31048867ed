//! What every verb says of itself, and what is made of it: help, completions, manual pages, the page of exit codes.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use emaj::cli::Cli;
use emaj::errors::Kind;
use regex::Regex;

use crate::documented::pages;
use crate::support::{self, emaj_alone};

fn verbs() -> Vec<String> {
    let program = Cli::command();
    program
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect()
}

#[test]
fn every_verb_has_a_help() {
    let directory = tempfile::tempdir().unwrap();
    let program = emaj_alone(directory.path()).args(["--help"]).run().ok();
    insta::assert_snapshot!("help", program.stdout);
    for verb in verbs() {
        let run = emaj_alone(directory.path()).args([verb.as_str(), "--help"]).run().ok();
        insta::assert_snapshot!(format!("help_{verb}"), run.stdout);
        assert!(
            program.stdout.contains(&format!("\n  {verb} ")),
            "`emaj --help` lacks `{verb}`"
        );
    }
}

#[test]
fn completions_know_every_verb() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = emaj_alone(directory.path()).args(["completions", shell]).run().ok();
        for verb in verbs() {
            assert!(run.stdout.contains(&verb), "{shell} lacks `{verb}`");
        }
    }
    emaj_alone(directory.path())
        .args(["completions", "tcsh"])
        .run()
        .code(64);
}

#[test]
fn every_verb_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let page = emaj_alone(directory.path()).args(["man"]).run().ok();
    assert!(page.stdout.contains(".TH emaj 1"), "{page}");
    let run = emaj_alone(directory.path()).args(["man", "--dir", "a/man1"]).run().ok();
    let written = std::fs::read_dir(directory.path().join("a/man1")).unwrap().count();
    assert_eq!(run.stderr, format!("{written} pages written into a/man1\n"));
    assert!(directory.path().join("a/man1/emaj-mark-set.1").exists());
    for verb in verbs() {
        let page = std::fs::read_to_string(directory.path().join(format!("a/man1/emaj-{verb}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{verb}");
    }
    std::fs::write(directory.path().join("file"), "").unwrap();
    emaj_alone(directory.path())
        .args(["man", "--dir", "file"])
        .run()
        .code(1);
}

/// Every option, and every variable that stands for one, is on some page.
#[test]
fn every_option_is_on_a_page() {
    fn all(command: &clap::Command) -> Vec<clap::Arg> {
        let own = command.get_arguments().cloned();
        own.chain(command.get_subcommands().flat_map(all)).collect()
    }
    let pages: String = pages()
        .iter()
        .filter(|page| !page.ends_with("CONTRIBUTING.md") && !page.ends_with("ARCHITECTURE.md"))
        .map(|page| std::fs::read_to_string(page).unwrap())
        .collect();
    let mut names = BTreeSet::new();
    for option in all(&Cli::command()) {
        names.extend(option.get_long().map(|name| format!("--{name}")));
        names.extend(option.get_env().map(|name| name.to_string_lossy().into_owned()));
    }
    assert!(names.len() > 60, "{names:?}");
    let is_there = |name: &String| Regex::new(&format!("{name}([^a-z-]|$)")).unwrap().is_match(&pages);
    let missing: Vec<_> = names.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "no page says what these are for: {missing:?}");
}

#[test]
fn the_page_of_exit_codes_and_the_program_agree() {
    let kinds = [
        Kind::Failed,
        Kind::PartlyDone,
        Kind::Refused,
        Kind::Different,
        Kind::NotInstalled,
        Kind::Locked,
        Kind::Denied,
        Kind::Unreachable,
        Kind::Usage,
        Kind::Manifest,
        Kind::Interrupted,
        Kind::Terminated,
    ];
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/exit-codes.md")).unwrap();
    let row = |line: &str| -> Option<(u8, String)> {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (code, kind) = (cells.next()?.parse().ok()?, cells.next()?);
        Some((code, kind.trim_matches('`').to_owned()))
    };
    let documented: Vec<(u8, String)> = page
        .lines()
        .filter_map(row)
        .filter(|(_, kind)| !kind.is_empty())
        .collect();
    let mut known: Vec<(u8, String)> = kinds
        .iter()
        .map(|kind| (kind.exit_code(), format!("{kind:?}")))
        .collect();
    known.sort();
    assert_eq!(documented, known);
    // A kind that is new in the program must be in the list above, too.
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/errors.rs")).unwrap();
    assert_eq!(source.matches("            Kind::").count(), kinds.len());
}

/// Whoever types `-h HOST` means the database server, and a script must not take a help for the work that it asked for.
#[test]
fn h_is_the_host_as_in_psql() {
    let db = support::database();
    for command in [&["mark", "set", "g", "m"][..], &["install"], &["status"]] {
        let run = support::emaj(&db).args(command).args(["-h", "/nowhere"]).run();
        assert_ne!(run.status, Some(0), "{run}");
        support::emaj(&db).args(command).args(["-h"]).run().code(64);
        let help = support::emaj(&db).args(command).args(["--help"]).run().ok();
        assert!(help.stdout.contains("-h, --host <HOST>"), "{help}");
    }
}
