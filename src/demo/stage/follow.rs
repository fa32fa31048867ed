//! What is done with the directory: started, stopped, asked, and compared with the tables.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::process::Output;

use super::{Stage, Tell};
use crate::demo::columns::indented;
use crate::demo::ldif::{self, Facts};
use crate::demo::story;
use crate::errors::{Error, Kind, Result};
use crate::pg::classify_in;
use crate::words::count;

/// One thing that is done with the directory.
pub(in crate::demo) enum Follow {
    /// Starts it, for the first time or again.
    Start,
    /// Stops it.
    Stop,
    /// Shows what `ldapsearch` finds with these arguments.
    Search(&'static [&'static str]),
    /// Checks that it says of people and teams what the tables say, nothing less and nothing more.
    Same,
    /// Checks that it does so of all but the entry whose name begins so, and does not of that.
    SameBut(&'static str),
    /// Keeps the identity of the entry whose name begins so.
    Note(&'static str),
    /// Checks that the entry whose name begins so is the noted one.
    Noted(&'static str),
}

impl Stage {
    pub(super) fn follow(&mut self, act: &Follow, tell: Tell<'_>) -> Result<()> {
        match act {
            Follow::Start => {
                let directory = self.directory.as_mut().ok_or_else(no_directory)?;
                tell("\n  $ slapd -f slapd.conf -h $LDAPURI\n")?;
                directory.start(&self.cluster)
            }
            Follow::Stop => {
                let process = self.directory.as_mut().ok_or_else(no_directory)?.stop()?;
                tell(&format!("\n  $ kill {process}\n"))
            }
            Follow::Search(args) => {
                let quoted = args.iter().map(|arg| match arg.contains('(') {
                    true => format!("'{arg}'"),
                    false => (*arg).to_owned(),
                });
                tell(&format!(
                    "\n  $ ldapsearch -x -LLL {}\n",
                    quoted.collect::<Vec<_>>().join(" ")
                ))?;
                let output = self.search(args)?;
                // (What failed says so here.)
                ldif::facts(&output)?;
                tell(&indented(String::from_utf8_lossy(&output.stdout).trim_end()))
            }
            Follow::Same => {
                let (total, differing) = self.against_tables()?;
                let text = match differing.as_slice() {
                    [] => format!(
                        "the directory says what the tables say, and nothing else: {}",
                        count(total, "value")
                    ),
                    entries => format!(
                        "the directory does not say what the tables say of {}",
                        entries.join(", ")
                    ),
                };
                self.check(differing.is_empty(), &text, tell)
            }
            Follow::SameBut(name) => {
                let (_, differing) = self.against_tables()?;
                let text = match differing.as_slice() {
                    [] => format!("nothing differs, not even `{name}`"),
                    entries => format!("not yet as the tables say: {}; all the rest is", entries.join(", ")),
                };
                let holds = matches!(differing.as_slice(), [one] if one.split(',').next() == Some(name));
                self.check(holds, &text, tell)
            }
            Follow::Note(name) => {
                self.entry = Some(self.identity(name)?);
                tell(&format!("\n  noted: the identity (entryUUID) of `{name}`\n"))
            }
            Follow::Noted(name) => {
                let now = self.identity(name)?;
                let same = !now.is_empty() && self.entry.as_ref() == Some(&now);
                let text = match same {
                    true => format!("`{name}` is the entry that was noted: it was renamed, not made anew"),
                    false => format!("`{name}` is not the entry that was noted"),
                };
                self.check(same, &text, tell)
            }
        }
    }

    fn search(&self, args: &[impl AsRef<OsStr>]) -> Result<Output> {
        let directory = self.directory.as_ref().ok_or_else(no_directory)?;
        let fixed = ["-x", "-LLL", "-o", "ldif-wrap=no"].map(OsStr::new);
        let args: Vec<&OsStr> = fixed.into_iter().chain(args.iter().map(AsRef::as_ref)).collect();
        self.run(directory.search(), &args)
    }

    /// Compares people and groups with the tables: the number of values that there should be, and the entries that differ.
    fn against_tables(&mut self) -> Result<(usize, Vec<String>)> {
        let are = ldif::facts(&self.search(&["(|(objectClass=inetOrgPerson)(objectClass=groupOfNames))"])?)?;
        let rows = self
            .session
            .query(story::TABLES_SAY, &[])
            .map_err(|error| classify_in(error, "read what the directory should say", story::TABLES_SAY))?;
        let wanted: Facts = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        let entries: BTreeSet<String> = are
            .symmetric_difference(&wanted)
            .map(|(entry, ..)| entry.clone())
            .collect();
        Ok((wanted.len(), entries.into_iter().collect()))
    }

    /// Returns what never changes of an entry, without its name.
    fn identity(&self, name: &str) -> Result<Facts> {
        let facts = ldif::facts(&self.search(&[&format!("({name})"), "entryUUID"])?)?;
        Ok(facts
            .into_iter()
            .map(|(_, name, value)| (String::new(), name, value))
            .collect())
    }
}

fn no_directory() -> Error {
    Error::message(Kind::Failed, "bug: the story speaks of a directory, and there is none")
}
