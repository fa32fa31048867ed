//! The demonstration: a story told on a throw-away cluster, by the commands that a person would type.
//!
//! `story` is the list of what is done, `stage` does it (it runs this very program, so what is shown is what runs),
//! `checksum` proves that rows and sequences are what they were; `directory` is the one that follows in the second part, `ldif` what is
//! read from it.
//! `commands/demo.rs` calls [`perform`]. Everything lives in the cluster's directory, which its watchdog removes whatever ends this process.

mod checksum;
mod columns;
mod directory;
mod ldif;
mod stage;
mod story;

use crate::errors::Result;

pub use self::stage::Outcome;

/// How the story is to be told.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// With its second part, for which OpenLDAP is needed.
    pub with_directory: bool,
    /// Lines that are longer than this are folded.
    pub width: Option<u16>,
}

/// Performs the story; `tell` is called with each piece of text that is to be read.
///
/// # Errors
/// What kept the story from going on; what is missing for it is said before it begins. A check that does not hold is no error here:
/// see [`Outcome`].
pub fn perform(wanted: Wanted, tell: &mut dyn FnMut(&str) -> Result<()>) -> Result<Outcome> {
    let mut tell = |text: &str| match wanted.width {
        Some(width) => tell(&columns::folded(text, width.into())),
        None => tell(text),
    };
    let programs = wanted.with_directory.then(directory::find).transpose()?;
    let second: &[story::Chapter] = if wanted.with_directory { story::DIRECTORY } else { &[] };
    let mut stage = stage::Stage::set(programs)?;
    for (at, chapter) in story::ROLLBACK.iter().chain(second).enumerate() {
        tell(&format!("\n{}. {}\n\n{}\n", at + 1, chapter.title, chapter.told))?;
        for act in chapter.acts {
            stage.act(act, &mut tell)?;
        }
    }
    Ok(stage.close())
}
