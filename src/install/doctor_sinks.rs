//! What is wrong with sinks that are installed, and what to do about it. Pure; `emaj doctor` calls it.

use std::time::Duration;

use jiff::Timestamp;

use super::doctor::{Check, Level, check};
use crate::journal::{SinkLag, SinkState, Trouble};
use crate::words::{count, quoted, shell};

/// A sink that is so far behind is one to look after (as in docs/alerts.yaml).
const BEHIND: f64 = 900.0;

/// Looks at each sink: whether it is delivered to, whether it keeps up, whether the log will wait for it, and what it did not take.
pub fn sinks(lags: &[SinkLag], now: Timestamp) -> Vec<Check> {
    lags.iter()
        .flat_map(|sink| {
            let what = format!("sink {}", sink.sink);
            let found = problems(sink, now);
            if found.is_empty() {
                let waits = match sink.changes {
                    0 => "everything is delivered".to_owned(),
                    changes => format!("{} on the way", count(changes, "change")),
                };
                return vec![check(Level::Ok, &what, waits, "")];
            }
            found
                .into_iter()
                .map(|(found, todo)| check(Level::Warning, &what, found, todo))
                .collect()
        })
        .collect()
}

/// What was found, and what to do.
fn problems(sink: &SinkLag, now: Timestamp) -> Vec<(String, String)> {
    let name = shell(&sink.sink);
    let reason = sink.reason.as_deref().unwrap_or("no reason is on record");
    let way_on = sink.state.way_on(&sink.sink, &sink.kind);
    let mut all = Vec::new();
    match sink.state {
        SinkState::Lost => {
            all.push((format!("it was given up: {reason}"), way_on));
        }
        SinkState::Paused | SinkState::Stopped => {
            all.push((format!("it is {}: {reason}", sink.state.word()), way_on));
        }
        SinkState::Active => {
            if let Some(trouble) = &sink.trouble {
                let more = match trouble {
                    Trouble::Down(_) => format!("`emaj sink test --sink {name}` says more"),
                    Trouble::Broken(_) => "`emaj verify` says what is wrong with the logs".to_owned(),
                };
                all.push((
                    format!("it is {trouble}"),
                    format!("{more}; it is tried again by itself"),
                ));
            }
        }
    }
    let age = sink.age(now).map_or(0.0, |age| age.as_secs_f64());
    let waits = || format!("{} wait, the oldest for {}", count(sink.changes, "change"), words(age));
    match sink.max_lag {
        Some(limit) if sink.state != SinkState::Lost && age >= limit / 2.0 => all.push((
            format!("{}; the log waits for {} (`max_lag`)", waits(), words(limit)),
            "have it delivered before, or give it a longer `max_lag`: after that it is given up".to_owned(),
        )),
        _ if sink.state == SinkState::Active && age >= BEHIND => {
            let todo = match &sink.worker {
                Some(_) => format!(
                    "`emaj sink lag` says whether it catches up; `emaj failures list --sink {name}` what it refuses"
                ),
                None => "nobody delivers to it: start `emaj run`".to_owned(),
            };
            all.push((waits(), todo));
        }
        _ => {}
    }
    if sink.set_aside > 0 {
        all.push((
            format!("it did not take {}", count(sink.set_aside, "change")),
            format!(
                "`emaj failures list --sink {name}` says why; `retry` has them tried again, `discard` gives them up"
            ),
        ));
    }
    for (table, why) in &sink.uncaptured {
        all.push((
            format!("table {table} {why}: what changes in it never arrives"),
            why.way_on(),
        ));
    }
    if !sink.unsent.is_empty() {
        let of = quoted("binding", &sink.unsent);
        all.push((
            format!("`emaj init` of {of} is not finished: rows that were there before are missing"),
            "`emaj init` goes on where it was; nothing to do while one is under way".to_owned(),
        ));
    }
    all
}

/// A time in the largest unit of which it has two.
fn words(seconds: f64) -> String {
    let minutes = Duration::from_secs_f64(seconds).as_secs() / 60;
    match minutes {
        0..2 => format!("{seconds:.0} s"),
        2..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink() -> SinkLag {
        SinkLag {
            sink: "out".to_owned(),
            kind: "file".to_owned(),
            manifest: "m".to_owned(),
            state: SinkState::Active,
            reason: None,
            trouble: None,
            max_lag: None,
            worker: Some("1@host".to_owned()),
            changes: 0,
            oldest: None,
            set_aside: 0,
            unsent: Vec::new(),
            uncaptured: Vec::new(),
        }
    }

    fn said(sink: SinkLag) -> Vec<String> {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let line = |check: Check| format!("{}: {} > {}", check.level.name(), check.found, check.todo);
        sinks(&[sink], now).into_iter().map(line).collect()
    }

    #[test]
    fn each_trouble_is_named_with_what_to_do() {
        assert_eq!(said(sink()), ["ok: everything is delivered > "]);
        let troubled = |trouble: Trouble| SinkLag {
            reason: Some(trouble.to_string()),
            trouble: Some(trouble),
            ..sink()
        };
        assert_eq!(
            said(troubled(Trouble::Down("broken: pipe".to_owned()))),
            ["warning: it is down: broken: pipe > `emaj sink test --sink out` says more; it is tried again by itself"]
        );
        assert_eq!(
            said(troubled(Trouble::Broken("no column".to_owned()))),
            [
                "warning: it is broken: no column > `emaj verify` says what is wrong with the logs; it is tried again by itself"
            ]
        );
        let since = |seconds: i64| Timestamp::from_second(1_000_000 - seconds).ok();
        let behind = |seconds: i64| SinkLag {
            changes: 7,
            oldest: since(seconds),
            ..sink()
        };
        assert_eq!(said(behind(60)), ["ok: 7 changes on the way > "]);
        assert!(said(behind(1000))[0].starts_with("warning: 7 changes wait, the oldest for 16 min > `emaj sink lag`"));
        let alone = SinkLag {
            worker: None,
            ..behind(90_000)
        };
        assert_eq!(
            said(alone),
            ["warning: 7 changes wait, the oldest for 25 h > nobody delivers to it: start `emaj run`"]
        );
        let near = SinkLag {
            max_lag: Some(1800.0),
            ..behind(950)
        };
        assert!(said(near)[0].contains("the log waits for 30 min (`max_lag`) > have it delivered before"));
        let paused = SinkLag {
            state: SinkState::Paused,
            reason: Some("new disks".to_owned()),
            set_aside: 1,
            ..behind(5000)
        };
        let said_of = said(paused);
        assert_eq!(
            said_of[0],
            "warning: it is paused: new disks > `emaj sink resume out` lets it go on"
        );
        assert!(said_of[1].starts_with("warning: it did not take 1 change > `emaj failures list --sink out`"));
        let unsent = SinkLag {
            unsent: vec!["people".to_owned()],
            ..sink()
        };
        assert_eq!(
            said(unsent),
            [
                "warning: `emaj init` of binding `people` is not finished: rows that were there before are missing \
              > `emaj init` goes on where it was; nothing to do while one is under way"
            ]
        );
        let lost = SinkLag {
            state: SinkState::Lost,
            max_lag: Some(10.0),
            ..behind(5000)
        };
        assert_eq!(said(lost).len(), 1);
    }
}
