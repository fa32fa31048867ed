//! Whatever is written, refused or cut off: in the end each entry holds what the rows give to it that name it by a row. Lives by chance.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::of_row::{WANTED, entries, installed};
use super::{column, drain, set_aside};
use crate::reliability::named_points::{AGAIN, ASIDE, ON_THE_WAY};
use crate::support::scale;
use crate::support::slapd::slapd;
use crate::support::steps::{Failed, tell_all, without_one};

/// What an application says, with small numbers for K and M. The directory refuses the number `none`; while it does nobody takes a name that may be in use there.
const STATEMENTS: &[&str] = &[
    "insert into team select K, 'tM' where not exists (select from team where id = K or name = 'tM' or number = 'none')",
    "insert into team select K, 'tK' where not exists (select from team where id = K or name = 'tK' or number = 'none')",
    "delete from team where id = K",
    "update team set name = 'tM' where id = K and not exists (select from team where name = 'tM' or number = 'none')",
    "update team set name = 'tM', number = 'none' where id = K and not exists (select from team where name = 'tM' or number = 'none')",
    "update team a set name = b.name from team b where a.id in (K, M) and b.id in (K, M) and a.id <> b.id and not exists (select from team where number = 'none')",
    "update team set id = M where id = K and not exists (select from team where id = M)",
    "update team set is_shown = not is_shown where id = K",
    "insert into membership select K, id from team where id = M and not exists (select from membership where (person, team) = (K, M))",
    "insert into membership select n, id from team, generate_series(1, K) n where id = M and not exists (select from membership where (person, team) = (n, M))",
    "delete from membership where team = K and person > M",
    "delete from membership where person = K",
    "update membership set team = M where person = K and exists (select from team where id = M) and (select count(*) from membership where person = K) = 1",
    "update membership set person = M where person = K and not exists (select from membership where person = M)",
];

#[derive(Clone, Debug)]
enum Step {
    /// Statements of one transaction.
    Write(Vec<String>),
    Run,
    /// A run that ends at a named point.
    Killed(&'static str, u8),
    /// What is refused is mended, and arrives.
    Mend,
}

#[derive(Default, Debug)]
struct Done {
    transactions: usize,
    runs: usize,
    killed: usize,
}

fn statement() -> impl Strategy<Value = String> {
    let letters = (1..6u8, 1..6u8);
    (select(STATEMENTS), letters)
        .prop_map(|(sql, (k, m))| sql.replace('K', &k.to_string()).replace('M', &m.to_string()))
}

fn life() -> impl Strategy<Value = Vec<Step>> {
    let points = [ON_THE_WAY, ASIDE, AGAIN].concat();
    let step = prop_oneof![
        4 => vec(statement(), 1..6).prop_map(Step::Write),
        1 => Just(Step::Run),
        1 => (select(points), 1..4u8).prop_map(|(point, at)| Step::Killed(point, at)),
        1 => Just(Step::Mend),
    ];
    vec(step, 10..50)
}

fn live(steps: &[Step], done: &mut Done) -> Option<Failed<Step>> {
    let slapd = slapd();
    let db = installed(
        &slapd,
        "insert into team select n, 't' || n from generate_series(1, 3) n",
    );
    let mut client = db.client();
    let (mut script, mut wrong) = (Vec::new(), None);
    let mend = || {
        let number = Step::Write(vec!["update team set number = '1' where number = 'none'".to_owned()]);
        [number, Step::Run, Step::Run]
    };
    let steps_and_mends = steps.iter().flat_map(|step| match step {
        Step::Mend => mend().to_vec(),
        step => vec![step.clone()],
    });
    for step in steps_and_mends.chain(mend()) {
        let (run, said) = match &step {
            Step::Mend => continue,
            Step::Write(said) => {
                let sql = format!("begin; {}; commit", said.join("; "));
                // What its own keys refuse is the application's affair.
                if client.batch_execute(&sql).is_err() {
                    client.batch_execute("rollback").unwrap();
                } else {
                    done.transactions += 1;
                    script.push(sql);
                }
                continue;
            }
            Step::Run => (drain(&db), "run".to_owned()),
            Step::Killed(point, at) => {
                let at = format!("{point}:{at}");
                (drain(&db).env("EMAJ_FAIL_AT", &at), format!("run, killed at {at}"))
            }
        };
        let run = run.run();
        script.push(format!("# {said}: {:?}", run.status));
        done.runs += 1;
        done.killed += usize::from(run.status.is_none());
        if !matches!(run.status, None | Some(0 | 3)) {
            wrong = Some(format!("it ends otherwise: {run}"));
        }
    }
    let (found, wanted, waits) = (entries(&slapd), column(&db, WANTED), set_aside(&db));
    if found != wanted || !waits.is_empty() {
        wrong = Some(format!("found {found:?}, wanted {wanted:?}, set aside {waits:?}"));
    }
    wrong.map(|wrong| Failed {
        steps: steps.to_vec(),
        wrong,
        script: script.join("\n"),
    })
}

fn smaller(step: &Step) -> Vec<Step> {
    match step {
        Step::Write(said) => without_one(said).into_iter().map(Step::Write).collect(),
        Step::Killed(..) => vec![Step::Run],
        Step::Run | Step::Mend => Vec::new(),
    }
}

#[test]
fn in_the_end_each_entry_has_what_the_rows_give_to_it() {
    tell_all("lives of entries", (&life(), b'e'), scale(3), live, smaller);
}
