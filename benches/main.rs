//! The speed of emaj: ratios against a baseline of the same run, on a throw-away cluster.
//!
//! `cargo bench` runs every section, `cargo bench -- bulk rollback` some. A machine is noisy: each figure is the median of several
//! rounds in which baseline and measured thing take turns. Where the server has the extension `emaj`, it is measured beside.
//! `EMAJ_BENCH_ROWS` (1,000,000) and `EMAJ_BENCH_ROUNDS` (3) make a short run shorter.

mod bulk;
mod deliver;
mod ldap;
mod marks;
mod parallel;
mod past;
mod plans;
mod rollback;
mod rows;
mod single;
mod stat;
mod support;
mod tables;

use support::{Bench, Outcome};

type Section = (&'static str, fn(&mut Bench) -> Outcome);

const SECTIONS: &[Section] = &[
    ("bulk", bulk::run),
    ("single", single::run),
    ("rollback", rollback::run),
    ("mix", rollback::mix),
    ("tables", tables::run),
    ("parallel", parallel::run),
    ("marks", marks::run),
    ("plans", plans::run),
    ("past", past::run),
    ("stat", stat::run),
    ("deliver", deliver::run),
    ("rows", rows::run),
    ("init", rows::init),
    ("ldap", ldap::run),
];

fn main() -> Outcome {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let mut bench = Bench::start()?;
    println!("{}\n", bench.machine()?);
    println!(
        "{:<48} {:>10} {:>10} {:>8} {:>8}",
        "", "baseline", "emaj", "ratio", "target"
    );
    for (name, run) in SECTIONS {
        if asked.is_empty() || asked.iter().any(|one| one == name) {
            run(&mut bench)?;
        }
    }
    Ok(())
}
