//! The sink `file`, asked directly: each delivery is in the file once, whatever is cut, killed or full.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use emaj::manifest::Event;
use emaj::sink::{Delivery, Offset, Opener, Outcome, Verdict};

use crate::support::rows::{delivery, message, named_opener_of, opener_of, row};

fn into(folder: &Path, settings: &str) -> Box<dyn Opener> {
    opener_of(folder, &format!("{{ file: {{ path: events.ndjson{settings} }} }}"), &[])
}

fn messages(range: std::ops::Range<usize>) -> Vec<Delivery> {
    range
        .map(|n| {
            delivery(
                n,
                Some(Event::Insert),
                message(&format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(n % 90))),
            )
        })
        .collect()
}

fn numbers(text: &str) -> Vec<u64> {
    let number = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))["n"]
            .as_u64()
            .unwrap()
    };
    text.lines().map(number).collect()
}

fn read(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("events.ndjson")).unwrap()
}

fn offset(n: usize) -> Option<Offset> {
    Some(Offset(format!("{n:012}")))
}

fn down(outcomes: &[Outcome]) -> &str {
    match outcomes.last() {
        Some(Outcome::Failed(fault)) if fault.verdict == Verdict::Down => &fault.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_half_written_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let opener = into(folder.path(), "");
    let mut sink = opener.open().unwrap();
    assert_eq!(sink.resume().unwrap(), None);
    assert!(
        sink.deliver(&messages(1..101))
            .iter()
            .all(|one| *one == Outcome::Written)
    );
    let held = opener.open().unwrap().resume().unwrap_err();
    assert!(
        held.verdict == Verdict::Down && held.reason.contains("another process"),
        "{held}"
    );
    drop(sink);
    // Killed while the next batch was being written: lines that nobody noted, the last one half.
    let mut file = OpenOptions::new()
        .append(true)
        .open(folder.path().join("events.ndjson"))
        .unwrap();
    file.write_all(b"{\"n\":101}\n{\"n\":1").unwrap();
    let mut sink = opener.open().unwrap();
    assert_eq!(sink.resume().unwrap(), offset(100));
    assert_eq!(sink.deliver(&messages(101..201)).len(), 100);
    assert_eq!(numbers(&read(folder.path())), (1..201).collect::<Vec<u64>>());
}

#[test]
fn what_is_tried_again_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let opener = into(folder.path(), "");
    let again = |n: usize, offset: &str| Delivery {
        retried: true,
        offset: Offset(offset.into()),
        ..messages(n..n + 1).remove(0)
    };
    let deliver = |one: Delivery| opener.open().unwrap().deliver(&[one]).remove(0);
    assert_eq!(deliver(again(7, "a")), Outcome::Written);
    // Killed before that was on record: others come, and it is tried once more.
    assert_eq!(deliver(messages(8..9).remove(0)), Outcome::Written);
    assert_eq!(deliver(again(9, "a")), Outcome::Written);
    assert_eq!(deliver(again(7, "a")), Outcome::Unchanged);
    // It is set aside anew: sent by another `init`, or delivered again on request.
    assert_eq!(deliver(again(7, "b")), Outcome::Written);
    let replayed = Delivery {
        replay: Some(1),
        ..again(7, "a")
    };
    assert_eq!(deliver(replayed), Outcome::Written);
    assert_eq!(numbers(&read(folder.path())), [7, 8, 9, 7, 7]);
    // So many are noted that the note has room for them.
    for n in 100..200 {
        assert_eq!(deliver(again(n, &"x".repeat(1_300))), Outcome::Written, "{n}");
    }
    assert_eq!(deliver(again(199, &"x".repeat(1_300))), Outcome::Unchanged);
}

#[test]
fn lines_of_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.ndjson"), "{\"n\":0}").unwrap();
    let mut sink = into(folder.path(), "").open().unwrap();
    sink.deliver(&messages(1..3));
    assert_eq!(numbers(&read(folder.path())), [0, 1, 2]);
}

#[test]
fn a_file_that_was_cut_or_moved_is_not_gone_on_with() {
    for harm in ["cut", "moved"] {
        let folder = tempfile::tempdir().unwrap();
        let opener = into(folder.path(), "");
        let mut sink = opener.open().unwrap();
        sink.deliver(&messages(1..11));
        drop(sink);
        let path = folder.path().join("events.ndjson");
        match harm {
            "cut" => OpenOptions::new().write(true).open(&path).unwrap().set_len(20).unwrap(),
            _ => std::fs::rename(&path, folder.path().join("elsewhere")).unwrap(),
        }
        let mut sink = opener.open().unwrap();
        let outcomes = sink.deliver(&messages(11..12));
        assert!(down(&outcomes).contains("somebody moved or cut it"), "{outcomes:?}");
        assert!(sink.resume().is_err());
        // As the message says.
        File::create(&path).unwrap();
        OpenOptions::new()
            .write(true)
            .open(folder.path().join("events.ndjson.emaj"))
            .unwrap()
            .set_len(0)
            .unwrap();
        assert_eq!(sink.resume().unwrap(), None);
        assert_eq!(sink.deliver(&messages(11..12)), [Outcome::Written]);
    }
}

#[test]
fn a_file_that_is_taken_away_under_the_sink_is_noticed() {
    for harm in ["removed", "emptied", "cut", "replaced by an empty one"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        let opener = into(folder.path(), "");
        let mut sink = opener.open().unwrap();
        assert_eq!(sink.deliver(&messages(1..11)).len(), 10);
        let elsewhere = folder.path().join("elsewhere");
        std::fs::copy(&path, &elsewhere).unwrap();
        match harm {
            "removed" => std::fs::remove_file(&path).unwrap(),
            "emptied" => _ = File::create(&path).unwrap(),
            "cut" => OpenOptions::new().write(true).open(&path).unwrap().set_len(20).unwrap(),
            _ => {
                std::fs::remove_file(&path).unwrap();
                File::create(&path).unwrap();
            }
        }
        // Also while there is nothing to deliver, by somebody who looks from beside.
        let fault = opener.open().unwrap().reach().unwrap_err();
        assert!(fault.reason.contains("somebody moved or cut it"), "{harm}: {fault}");
        for _ in 0..2 {
            let outcomes = sink.deliver(&messages(11..13));
            assert_eq!(outcomes.len(), 1, "{harm}");
            assert!(
                down(&outcomes).contains("somebody moved or cut it"),
                "{harm}: {outcomes:?}"
            );
        }
        // Put back, it goes on where it was.
        std::fs::rename(&elsewhere, &path).unwrap();
        opener.open().unwrap().reach().unwrap();
        assert_eq!(
            sink.deliver(&messages(11..13)),
            [Outcome::Written, Outcome::Written],
            "{harm}"
        );
        assert_eq!(numbers(&read(folder.path())), (1..13).collect::<Vec<u64>>(), "{harm}");
        assert_eq!(sink.resume().unwrap(), offset(12));
    }
}

#[test]
fn a_copy_that_takes_the_file_s_place_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    let mut sink = into(folder.path(), "").open().unwrap();
    assert_eq!(sink.deliver(&messages(1..11)).len(), 10);
    std::fs::copy(&path, folder.path().join("copy")).unwrap();
    std::fs::rename(folder.path().join("copy"), &path).unwrap();
    assert_eq!(sink.deliver(&messages(11..12)), [Outcome::Written]);
    assert_eq!(numbers(&read(folder.path())), (1..12).collect::<Vec<u64>>());
}

#[test]
fn what_others_add_is_said_and_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = into(folder.path(), "").open().unwrap();
    assert_eq!(sink.deliver(&messages(1..11)).len(), 10);
    let path = folder.path().join("events.ndjson");
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"{\"n\":99}\n").unwrap();
    let outcomes = sink.deliver(&messages(11..12));
    assert!(down(&outcomes).contains("somebody else writes there"), "{outcomes:?}");
    assert_eq!(sink.deliver(&messages(11..12)), [Outcome::Written]);
    assert_eq!(numbers(&read(folder.path())), (1..12).collect::<Vec<u64>>());
}

#[test]
fn old_files_are_numbered_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let opener = into(folder.path(), ", rotate_mib: 1, keep: 2");
    let pad = "y".repeat(1000);
    let mut next = 1;
    for _ in 0..5 {
        // Opened anew each time: the numbers go on.
        let mut sink = opener.open().unwrap();
        let batch: Vec<Delivery> = (next..next + 1500)
            .map(|n| delivery(n, None, message(&format!(r#"{{"n":{n},"pad":"{pad}"}}"#))))
            .collect();
        assert!(sink.deliver(&batch).iter().all(|one| *one == Outcome::Written));
        next += 1500;
        assert_eq!(sink.resume().unwrap(), offset(next - 1));
    }
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "sink.yaml")
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "events.ndjson",
            "events.ndjson.6",
            "events.ndjson.7",
            "events.ndjson.emaj"
        ]
    );
    let mut all = Vec::new();
    for name in ["events.ndjson.6", "events.ndjson.7", "events.ndjson"] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(text.len() <= 1 << 20, "{name} has {} bytes", text.len());
        all.extend(numbers(&text));
    }
    let first = all[0];
    assert_eq!(all, (first..next as u64).collect::<Vec<u64>>());
}

/// Fills as many files as there are batches.
fn fill(opener: &dyn Opener, from: usize, batches: usize) {
    let pad = "y".repeat(1000);
    let mut sink = opener.open().unwrap();
    for batch in 0..batches {
        let first = from + batch * 1000;
        let batch: Vec<Delivery> = (first..first + 1000)
            .map(|n| delivery(n, None, message(&format!(r#"{{"n":{n},"pad":"{pad}"}}"#))))
            .collect();
        let outcomes = sink.deliver(&batch);
        assert!(
            outcomes.iter().all(|one| *one == Outcome::Written),
            "{:?}",
            outcomes.last()
        );
    }
}

fn old_files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            Some(
                entry
                    .unwrap()
                    .file_name()
                    .to_str()?
                    .strip_prefix("events.ndjson.")?
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    names
}

#[test]
fn files_of_others_are_no_old_files_of_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let opener = into(folder.path(), ", rotate_mib: 1, keep: 3");
    fill(&*opener, 1, 3);
    assert_eq!(old_files(folder.path()), ["1", "2", "emaj"]);
    // A copy that somebody keeps; the file of another sink, whose lines came first; one whose lines are still to come.
    for name in ["20261101", "3", "5.emaj", "18446744073709551615", "007"] {
        std::fs::write(folder.path().join(format!("events.ndjson.{name}")), "{}\n").unwrap();
    }
    fill(&*opener, 3001, 2);
    let others = ["007", "18446744073709551615", "20261101"];
    assert_eq!(
        old_files(folder.path()),
        [
            &others[..1],
            &["1"],
            &others[1..2],
            &["2", "20261101", "3", "4", "5.emaj", "6", "emaj"]
        ]
        .concat()
    );
    fill(&*opener, 5001, 4);
    let there = old_files(folder.path());
    for kept in ["1", "2", "4", "8", "9", "10", "3", "5.emaj"].iter().chain(&others) {
        assert!(there.contains(&(*kept).to_owned()), "{kept}: {there:?}");
    }
    for gone in ["6", "7"] {
        assert!(!there.contains(&gone.to_owned()), "{gone}: {there:?}");
    }
    assert_eq!(
        std::fs::read_to_string(folder.path().join("events.ndjson.3")).unwrap(),
        "{}\n"
    );
}

#[test]
fn old_files_that_were_there_before_the_note_stay() {
    let folder = tempfile::tempdir().unwrap();
    let opener = into(folder.path(), ", rotate_mib: 1, keep: 1");
    for name in ["3", "7"] {
        std::fs::write(folder.path().join(format!("events.ndjson.{name}")), "{}\n").unwrap();
    }
    fill(&*opener, 1, 4);
    assert_eq!(old_files(folder.path()), ["10", "3", "7", "emaj"]);
}

#[test]
fn an_old_file_that_cannot_be_removed_stays_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let opener = into(folder.path(), ", rotate_mib: 1, keep: 1");
    fill(&*opener, 1, 2);
    let stubborn = folder.path().join("events.ndjson.1");
    let first = numbers(&std::fs::read_to_string(&stubborn).unwrap());
    std::fs::remove_file(&stubborn).unwrap();
    std::fs::create_dir(&stubborn).unwrap();
    std::fs::write(stubborn.join("in the way"), "").unwrap();
    fill(&*opener, 2001, 1);
    assert_eq!(old_files(folder.path()), ["1", "2", "emaj"]);
    let kept = ["events.ndjson.2", "events.ndjson"].map(|name| folder.path().join(name));
    let all: Vec<u64> = kept
        .iter()
        .flat_map(|path| numbers(&std::fs::read_to_string(path).unwrap()))
        .collect();
    assert_eq!(all, (first.len() as u64 + 1..3001).collect::<Vec<u64>>());
}

#[test]
fn two_sinks_do_not_write_to_one_file_whatever_they_call_it() {
    let of = |folder: &Path, sink: &str, path: &str| {
        let file = format!("{{ file: {{ path: {path} }} }}");
        named_opener_of(folder, sink, &file, &[])
    };
    for kind in ["symbolic link", "hard link", "hard link elsewhere"] {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir_in(folder.path()).unwrap();
        let path = folder.path().join("events.ndjson");
        let other = match kind {
            "hard link elsewhere" => elsewhere.path().join("link.ndjson"),
            _ => folder.path().join("link.ndjson"),
        };
        if kind == "symbolic link" {
            // The file need not be there yet.
            std::os::unix::fs::symlink("events.ndjson", &other).unwrap();
        } else {
            File::create(&path).unwrap();
            std::fs::hard_link(&path, &other).unwrap();
        }
        let one = of(folder.path(), "one", "events.ndjson");
        let two = of(folder.path(), "two", other.to_str().unwrap());
        let mut first = one.open().unwrap();
        assert_eq!(first.deliver(&messages(1..3)).len(), 2, "{kind}");
        let refused = |what: &str| {
            let outcomes = two.open().unwrap().deliver(&messages(3..5));
            assert!(down(&outcomes).contains(what), "{kind}: {outcomes:?}");
        };
        refused(match kind {
            "symbolic link" => "another process writes there for the sink `one` of `here`",
            "hard link" => "events.ndjson`, to which another sink writes",
            _ => "under another name",
        });
        drop(first);
        if kind == "hard link elsewhere" {
            // While nobody has it open it is a file that has lines already; both see that it grows.
            assert_eq!(two.open().unwrap().deliver(&messages(3..5)).len(), 2);
            let outcomes = one.open().unwrap().deliver(&messages(5..6));
            assert!(down(&outcomes).contains("another name (a hard link)"), "{outcomes:?}");
            assert_eq!(numbers(&read(folder.path())), [1, 2, 3, 4]);
            continue;
        }
        refused(match kind {
            "symbolic link" => "the file of the sink `one` of `here`",
            _ => "events.ndjson`, to which another sink writes",
        });
        assert_eq!(one.open().unwrap().deliver(&messages(3..4)), [Outcome::Written]);
        assert_eq!(numbers(&read(folder.path())), [1, 2, 3], "{kind}");
    }
}

#[test]
fn a_full_disk_is_down_and_nothing_is_half_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = opener_of(folder.path(), "{ file: { path: /dev/full } }", &[])
        .open()
        .unwrap();
    let outcomes = sink.deliver(&messages(1..3));
    assert!(down(&outcomes).contains("make room there"), "{outcomes:?}");
}

#[test]
fn rows_and_odd_bodies_are_one_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = into(folder.path(), "").open().unwrap();
    let batch = [
        delivery(1, None, row("t", None, Some("{\"id\":1,\n\"v\":1.50}"))),
        delivery(2, Some(Event::Delete), row("t", Some(r#"{"id":1}"#), None)),
        delivery(3, Some(Event::Insert), message("{\n\"a\": 1}")),
    ];
    assert_eq!(sink.preview(&batch).unwrap().len(), 3);
    assert_eq!(sink.deliver(&batch).len(), 3);
    insta::assert_snapshot!(read(folder.path()), @r#"
    {"id":"id-1","binding":"bound","event":"init","time":"2026-01-02T03:04:05.000006Z","table":"public.t","row":{"id":1, "v":1.50},"old":null}
    {"id":"id-2","binding":"bound","event":"delete","time":"2026-01-02T03:04:05.000006Z","table":"public.t","row":null,"old":{"id":1}}
    { "a": 1}
    "#);
}

/// The child of the next test: writes until it is killed.
#[test]
#[ignore = "the next test starts it, and kills it"]
fn a_writer_that_is_killed() {
    let folder = std::env::var("EMAJ_TEST_FILE_WRITER").unwrap();
    let mut sink = into(Path::new(&folder), ", rotate_mib: 1, keep: 1000").open().unwrap();
    let mut next = match sink.resume().unwrap() {
        Some(Offset(text)) => text.parse::<usize>().unwrap() + 1,
        None => 1,
    };
    loop {
        sink.deliver(&messages(next..next + 700));
        next += 700;
    }
}

#[test]
fn each_event_is_there_once_whenever_the_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    // As often as it takes, on a busy machine, until a file is full.
    let full = || folder.path().join("events.ndjson.1").exists();
    let rounds = (0..200).take_while(|round| *round < 12 || !full());
    for round in rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["file_sink::a_writer_that_is_killed", "--exact", "--ignored"])
            .env("EMAJ_TEST_FILE_WRITER", folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        let size = || std::fs::metadata(&path).map_or(0, |found| found.len());
        let before = size();
        while size() == before && started.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_millis(7 * (round % 12)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut sink = into(folder.path(), ", rotate_mib: 1, keep: 1000").open().unwrap();
    let Some(Offset(last)) = sink.resume().unwrap() else {
        panic!("nothing arrived")
    };
    let mut old: Vec<u64> = std::fs::read_dir(folder.path())
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()?
                .strip_prefix("events.ndjson.")?
                .parse()
                .ok()
        })
        .collect();
    old.sort_unstable();
    let mut all = Vec::new();
    for number in &old {
        all.extend(numbers(
            &std::fs::read_to_string(folder.path().join(format!("events.ndjson.{number}"))).unwrap(),
        ));
    }
    all.extend(numbers(&read(folder.path())));
    assert!(all.len() > 5000 && !old.is_empty(), "{} events, {old:?}", all.len());
    assert_eq!(all, (1..=last.parse::<u64>().unwrap()).collect::<Vec<_>>());
}
