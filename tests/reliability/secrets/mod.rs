//! Canaries in the place of every secret: none is said, at whatever verbosity, in plans, in errors, in files, in the database or its activity.
//!
//! [`Watch`] makes the canaries and looks for them: as they are, in base64 and in hexadecimal, and also the part in front alone, in case
//! something is cut off. `sinks` has those of a working installation, `connections` the ways to give the source's password, rightly and wrongly.

mod connections;
mod sinks;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::support::{Emaj, Run};

/// The canaries that are out, and how much was looked at.
#[derive(Default)]
struct Watch {
    out: Vec<String>,
    bytes: usize,
}

impl Watch {
    /// Returns a secret that nobody else has.
    fn canary(&mut self, place: &str) -> String {
        self.keep(format!("canary{place}8f3a91"))
    }

    /// Takes one that is there already.
    fn keep(&mut self, canary: String) -> String {
        assert!(!self.out.contains(&canary), "{canary} twice");
        self.out.push(canary.clone());
        canary
    }

    /// Fails when a text holds one of them.
    #[track_caller]
    fn look(&mut self, place: &str, text: &str) {
        self.bytes += text.len();
        for canary in &self.out {
            let found = forms(canary).into_iter().find_map(|form| text.find(&form));
            if let Some(at) = found {
                let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
                let line = text[from..].lines().next().unwrap_or_default();
                let line: String = line.chars().take(600).collect();
                panic!("{place} tells {canary}: {line}");
            }
        }
    }

    /// Looks at what a run said. (Its arguments are the caller's.)
    #[track_caller]
    fn run(&mut self, emaj: Emaj) -> Run {
        let run = loud(emaj).run();
        self.look(&format!("stdout of `{}`", run.command), &run.stdout);
        self.look(&format!("stderr of `{}`", run.command), &run.stderr);
        run
    }

    fn count(&self) -> usize {
        self.out.len()
    }
}

/// A run with everything switched on that makes it say more.
fn loud(emaj: Emaj) -> Emaj {
    emaj.env("EMAJ_LOG", "trace")
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "full")
}

/// The ways in which a secret may be written.
fn forms(canary: &str) -> Vec<String> {
    // (The last letters may have been cut off.)
    let part = &canary[..canary.len() - 5];
    let hex = part.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![part.to_owned(), hex];
    // Base64 at each of the three places where it may begin; letters that depend on what stands beside are left out.
    for before in 0..3 {
        let encoded = BASE64_STANDARD.encode(["_".repeat(before), part.to_owned()].concat());
        forms.push(encoded[[0, 2, 3][before]..encoded.len() - 4].to_owned());
    }
    forms
}

#[test]
fn a_canary_is_seen_in_each_of_its_forms() {
    let mut watch = Watch::default();
    let canary = watch.canary("proof");
    watch.look("nothing", "canary, proof: 8f3a91");
    for before in ["", "u:", "xyz:", "user:"] {
        let told = BASE64_STANDARD.encode(format!("{before}{canary}@"));
        let seen = std::panic::catch_unwind(|| {
            Watch {
                out: vec![canary.clone()],
                bytes: 0,
            }
            .look("x", &told)
        });
        assert!(seen.is_err(), "{told}");
    }
    for told in [canary.to_string(), canary[..canary.len() - 3].to_owned()] {
        let seen = std::panic::catch_unwind(|| {
            Watch {
                out: vec![canary.clone()],
                bytes: 0,
            }
            .look("x", &told)
        });
        assert!(seen.is_err(), "{told}");
    }
}
